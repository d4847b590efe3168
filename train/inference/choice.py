"""Logits -> the next token of each request.

Temperature 0 takes the likeliest. Otherwise one is drawn from the likeliest tokens that together have `top_p`: by a
number in [0, 1) that is a hash of the request's seed and of how many tokens it has, so that no other request, and no
place in a batch, has a say in it.

Letters in names of shapes: S requests, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from train.inference.conversation import Sampling
from train.models import chance


def choose(logits_SV: Tensor, samplings: Sequence[Sampling], lengths: Sequence[int]) -> list[int]:
    """`lengths`: how many tokens each answer has so far."""
    found: list[int] = logits_SV.argmax(-1).tolist()
    for row, (sampling, length) in enumerate(zip(samplings, lengths, strict=True)):
        if sampling.temperature > 0:
            found[row] = _drawn(logits_SV[row], sampling, length)
    return found


def uniform(seed: int, length: int) -> float:
    """A number in [0, 1)."""
    return (chance.number("answer", seed, length) >> 10) / 2**53


def _drawn(logits_V: Tensor, sampling: Sampling, length: int) -> int:
    wide = logits_V.double()
    weights = torch.softmax((wide - wide.max()) / sampling.temperature, -1)  # finite, however cold it is
    order = None
    if sampling.top_p < 1:
        weights, order = weights.sort(descending=True, stable=True)
        weights[weights.cumsum(0) - weights >= sampling.top_p] = 0
    sums = weights.cumsum(0)
    drawn = uniform(sampling.seed, length) * sums[-1]
    place = min(int(torch.searchsorted(sums, drawn, right=True)), int(weights.nonzero()[-1]))
    return place if order is None else int(order[place])
