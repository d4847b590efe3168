"""How much each target token counts in a step's loss: the sum of weight times loss over the step's total weight.

    tokens   1: every target token alike
    samples  1 / n of a sample with n targets: every sample alike
    sqrt     1 / sqrt(n): in between, as InternVL trains

The total is of the whole step and is known before anything is computed, so how samples were packed, and on which
device, does not change what they count. A sample is one of the shards': a conversation that `too_long: split` cut into
pieces counts once per piece.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from train.data.collate import Pack

Weigh = Literal["tokens", "samples", "sqrt"]
_POWER = {"tokens": 0.0, "samples": 1.0, "sqrt": 0.5}


def total(packs: Iterable[Pack], weigh: Weigh) -> float:
    """The weight of all targets."""
    counts = [sample.targets for pack in packs for sample in pack.samples if sample.targets]
    return float(sum(count ** (1 - _POWER[weigh]) for count in counts))


def weighed(losses_K: Tensor, pack: Pack, weigh: Weigh, total: float) -> Tensor:
    """What a pack adds to the step's loss."""
    if weigh != "tokens":
        counts = torch.tensor([sample.targets for sample in pack.samples])
        weights_K = counts.clamp(min=1).double().pow(-_POWER[weigh]).repeat_interleave(counts)
        losses_K = losses_K * weights_K.to(losses_K)
    return losses_K.sum() / total
