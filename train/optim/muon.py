"""Muon: for the matrices.

Muon (Keller Jordan, 2024) replaces a matrix's momentum by the nearest orthogonal matrix, so rare directions move as
far as common ones: from random weights the quickstart's model learns to look at the picture in fewer steps than with
AdamW. Its update is scaled to a root mean square of 1, as AdamW's is by nature, so one learning rate serves both.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_MOMENTUM = 0.95


class Muon(Optimizer):
    """Momentum, orthogonalised: for parameters that are matrices."""

    def __init__(self, params: Any, lr: float, weight_decay: float, pool: Executor) -> None:
        self.pool = pool
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no use for re-evaluation
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            directions = self.pool.map(_direction, [self._momentum(p) for p in parameters])
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """The gradient's moving average, looking one step ahead (Nesterov)."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average: Tensor = state["momentum"].lerp_(parameter.grad, 1 - _MOMENTUM)
        return parameter.grad.lerp(average, _MOMENTUM)


def _direction(momentum_RC: Tensor) -> Tensor:
    """The orthogonal matrix nearest to the momentum, scaled to a root mean square of 1."""
    return orthogonal(momentum_RC) * math.sqrt(max(momentum_RC.shape))


def orthogonal(x_RC: Tensor, steps: int = 5) -> Tensor:
    """The matrix with its singular values brought near 1, by a quintic Newton-Schulz iteration."""
    if x_RC.shape[0] > x_RC.shape[1]:
        return orthogonal(x_RC.T, steps).T
    x: Tensor = x_RC / (torch.linalg.matrix_norm(x_RC) + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x
