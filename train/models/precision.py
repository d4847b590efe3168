"""What a model is held in and what it computes in, in one process.

    states float32, compute float32     everything in float32
    states float32, compute bfloat16    weights that learn in float32, matrix products in bfloat16, by torch.autocast
    states bfloat16, compute bfloat16   weights in bfloat16; the optimiser rounds by chance (train/optim/adamw.py)

Autocast and not a cast copy of the weights: packs are computed side by side on threads, each thread has its own, and
norms, softmax and the residual stream stay in float32. Its gradients are float32, and sums of them are.

Frozen weights are never updated, so no digit of theirs below what is computed in is held: with compute bfloat16 they
are bfloat16. Buffers stay as they are: the frequencies of the rotation in bfloat16 would be others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from train.config import OptimiserConfig


def set_dtypes(model: nn.Module, config: OptimiserConfig) -> None:
    """Hold each parameter in its dtype."""
    for parameter in model.parameters():
        if config.states == "bfloat16" or (config.compute == "bfloat16" and not parameter.requires_grad):
            parameter.data = parameter.data.to(torch.bfloat16)


def autocast(model: nn.Module) -> None:
    """From now on a forward pass computes its matrix products in bfloat16."""
    forward = model.forward

    def cast(*arguments: Any) -> Tensor:
        with torch.autocast(next(model.parameters()).device.type, torch.bfloat16):
            found: Tensor = forward(*arguments)
        return found

    model.forward = cast
