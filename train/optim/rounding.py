"""float32 -> bfloat16 by chance: up or down with the probability that makes the mean right.

A bfloat16 has 8 bits of precision. A weight that is moved by less than a 256th of itself stays where it is if the sum
is rounded to the nearest, however often that happens; so does a moving average of betas like 0.999. Rounded by chance,
many small moves come to their sum.

The chance is a function of a key (train/models/chance.py): a run that is continued draws the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 0xFFFF  # the bits of a float32 that a bfloat16 has not


def by_chance(x: Tensor, chance: torch.Generator) -> Tensor:
    """Adding to the bits that will be cut off carries into the others as often as these bits say, for either sign."""
    noise = torch.randint(0, _LOW + 1, x.shape, dtype=torch.int32, device=x.device, generator=chance)
    return noise.add_(x.float().view(torch.int32)).bitwise_and_(~_LOW).view(torch.float32).bfloat16()
