"""The gradient of a step: packs side by side on threads, their sums in order.

Each pack is computed with one torch thread, and the results are added in the order of the packs, so any number of
threads gives the same bits. It is also the faster way to use a few cores: the products of a small model are too short
to be split, and threads that wait for each other inside a product spin, which costs most when another process wants a
core.

Sums are in float32 whatever the gradients are in: in bfloat16, rounded to the nearest, 256 equal addends are the most
that count. Gradients in bfloat16 are rounded twice, a pack's when it is made and the step's when it is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor

import torch
from torch import Tensor, nn

from train import weighing
from train.data.collate import Pack
from train.weighing import Weigh


def accumulate(
    model: nn.Module, packs: Sequence[Pack], pool: Executor, weigh: Weigh = "tokens"
) -> tuple[float, list[Tensor]]:
    """Set every parameter's `grad` to the step's, and return the loss and, pack by pack, those of the target tokens.

    Loss and gradient are means over the step's target tokens, weighed (train/weighing.py).
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weight = weighing.total(packs, weigh) or 1.0

    def one(pack: Pack) -> tuple[float, Tensor, tuple[Tensor | None, ...]]:
        losses = model(pack)
        loss = weighing.weighed(losses, pack, weigh, weight)
        if not loss.requires_grad:  # text alone, where only what sees images learns
            return float(loss), losses, (None,) * len(parameters)
        return float(loss.detach()), losses.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    total, found, sums = 0.0, [], Sums()
    for parameter in parameters:
        parameter.grad = None
    for loss, losses, gradients in pool.map(one, packs):
        total += loss
        found.append(losses)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:  # the tower has none in a pack of text alone
                sums.add(parameter, gradient)
    sums.give()
    return total, found


class Sums:
    """Of the gradients of a step's packs, by parameter."""

    def __init__(self) -> None:
        self._found: dict[nn.Parameter, Tensor] = {}

    def add(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        known = self._found.get(parameter)
        self._found[parameter] = gradient.float() if known is None else known.add_(gradient)

    def take(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add what a backward pass left, and leave nothing."""
        for parameter in parameters:
            if parameter.grad is not None:
                self.add(parameter, parameter.grad)
                parameter.grad = None

    def give(self) -> None:
        """Set each parameter's `grad`, in its own dtype; the sums are let go one by one."""
        while self._found:
            parameter, gradient = self._found.popitem()
            parameter.grad = gradient.to(parameter.dtype)


def losses(model: nn.Module, packs: Sequence[Pack], pool: Executor) -> list[Tensor]:
    """Those of the target tokens, pack by pack; nothing is learnt from them."""

    def one(pack: Pack) -> Tensor:
        with torch.no_grad():  # it holds for a thread
            found: Tensor = model(pack)
            return found

    return list(pool.map(one, packs))
