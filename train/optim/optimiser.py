"""Muon for the matrices, AdamW for everything else, and the learning rate as a pure function of the step.

Muon (Keller Jordan, 2024) replaces a matrix's momentum by the nearest orthogonal matrix, so rare directions move as
far as common ones: from random weights the quickstart's model learns to look at the picture in fewer steps than with
AdamW. Its update is scaled to a root mean square of 1, as AdamW's is by nature, so one learning rate serves both.

Weight decay acts on matrices only: norms, biases and embeddings (rows of rare tokens would shrink without ever being
seen) have none. The schedule holds no state, so a resumed run needs nothing but its step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import Executor

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from train.config import OptimiserConfig

_BETAS = (0.9, 0.95)
_MOMENTUM = 0.95
_WSD_DECAY = 0.2  # the share of all steps over which wsd falls to 0


class Muon(Optimizer):
    """Momentum, orthogonalised: for parameters that are matrices."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, pool: Executor) -> None:
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


def make(model: nn.Module, config: OptimiserConfig, pool: Executor) -> list[Optimizer]:
    """The optimisers that together hold every parameter once."""
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    # A head tied to the embedding is a table of tokens, not a map between spaces.
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = [p for p in model.parameters() if id(p) in linear - tables]
    rest = [p for p in model.parameters() if id(p) not in linear - tables]
    others = AdamW(rest, lr=config.learning_rate, betas=_BETAS, weight_decay=0.0)
    if config.matrices == "muon":
        return [Muon(matrices, config.learning_rate, config.weight_decay, pool), others]
    decayed = AdamW(matrices, lr=config.learning_rate, betas=_BETAS, weight_decay=config.weight_decay)
    return [decayed, others]


def learning_rate(config: OptimiserConfig, step: int, total: int) -> float:
    """For step 0 .. total - 1."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        done = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * min(1.0, (total - step) / max(1.0, _WSD_DECAY * total))
