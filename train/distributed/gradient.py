"""The gradient of a step: packs side by side on threads, their sums in order.

Each pack is computed with one torch thread, and the results are added in the order of the packs, so any number of
threads gives the same bits. It is also the faster way to use a few cores: the products of a small model are too short
to be split, and threads that wait for each other inside a product spin, which costs most when another process wants a
core.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import torch
from torch import Tensor, nn

from train.data.collate import Pack


def accumulate(model: nn.Module, packs: Sequence[Pack], pool: Executor) -> float:
    """Set every parameter's `grad` to the step's, and return the loss: both are means over the step's target tokens."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    targets = max(1, sum(pack.num_targets for pack in packs))

    def one(pack: Pack) -> tuple[float, tuple[Tensor | None, ...]]:
        loss = model(pack) / targets
        if not loss.requires_grad:  # text alone, where only what sees images learns
            return float(loss), (None,) * len(parameters)
        return float(loss.detach()), torch.autograd.grad(loss, parameters, allow_unused=True)

    total = 0.0
    for parameter in parameters:
        parameter.grad = None
    for loss, gradients in pool.map(one, packs):
        total += loss
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:  # the tower has none in a pack of text alone
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return total
