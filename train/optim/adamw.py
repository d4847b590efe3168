"""AdamW for weights and moments in bfloat16: computed in float32, rounded by chance (rounding.py).

Weight, gradient and moments take 8 bytes of each parameter, a half of what they take in float32; while a step's packs
are added their sum takes 4 more (train/distributed/gradient.py). The formula and the order of its operations are those
of torch's AdamW, so on float32, which it also takes, it has the very same numbers. Long tensors are computed piece by
piece, for the pieces in float32 are not to take what was saved.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from train.models import chance
from train.optim import rounding

_PIECE = 2**24


class RoundingAdamW(Optimizer):
    """Each group has the `names` of its parameters, which key the rounding with `seed` and a parameter's own step."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float, seed: int) -> None:
        self.seed = seed
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no use for re-evaluation
        for group in self.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                if parameter.grad is not None:
                    self._learn(name, parameter, group)

    def _learn(self, name: str, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        step = int(state["step"])
        kept = [_local(x).view(-1) for x in (parameter.detach(), state["exp_avg"], state["exp_avg_sq"])]
        flat = [*kept, _local(parameter.grad).reshape(-1)]  # type: ignore[arg-type]  # there is one
        drawn = chance.generator(flat[0].device, self.seed, step, name)
        for pieces in zip(*(torch.split(x, _PIECE) for x in flat), strict=True):
            for old, new in zip(pieces, _updated([x.float() for x in pieces], step, group), strict=False):
                old.copy_(new if old.dtype == torch.float32 else rounding.by_chance(new, drawn))


def _updated(pieces: list[Tensor], step: int, group: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and moments after a step from these and the gradient, in float32."""
    weight, average, square, gradient = pieces
    (first, second), rate = group["betas"], float(group["lr"])
    average = average.lerp(gradient, 1 - first)
    square = (square * second).addcmul_(gradient, gradient, value=1 - second)
    size = (square.sqrt() / math.sqrt(1 - second**step)).add_(group["eps"])
    weight = (weight * (1 - rate * group["weight_decay"])).addcdiv_(average, size, value=-rate / (1 - first**step))
    return weight, average, square


def _local(tensor: Tensor) -> Tensor:
    """What of a tensor lies here: one that is spread over processes has a piece on each."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
