"""The learning rate: a pure function of the settings, the step and the number of steps.

It rises linearly over the warm-up, which is so many steps or a share of all, and then falls from `learning_rate` to
`floor` times as much: along half a cosine, or, as wsd, on a line over the last `decay` of the steps. Nothing is
remembered, so a resumed run needs nothing but its step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer

from train.config import OptimiserConfig


def set_rates(optimisers: Sequence[Optimizer], config: OptimiserConfig, step: int, total: int) -> float:
    """Give each part its rate of a step; returns the highest of them."""
    groups = [group for each in optimisers for group in each.param_groups]
    for group in groups:
        group["lr"] = learning_rate(config.of(group["part"]), step, total)
    return max(float(group["lr"]) for group in groups)


def learning_rate(config: OptimiserConfig, step: int, total: int) -> float:
    """For step 0 .. total - 1."""
    rising = warmup_steps(config, total)
    if step < rising:
        return config.learning_rate * (step + 1) / rising
    if config.schedule == "cosine":
        height = 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
    else:
        height = min(1.0, (total - step) / max(1.0, config.decay * total))
    return config.learning_rate * (config.floor + (1 - config.floor) * height)


def warmup_steps(config: OptimiserConfig, total: int) -> int:
    """A share is rounded up: of a few steps the first is then not the steepest."""
    if config.warmup_steps is not None:
        return config.warmup_steps
    assert config.warmup is not None
    return math.ceil(round(config.warmup * total, 6))  # 0.07 x 100 is 7, not 7.000000000000001
