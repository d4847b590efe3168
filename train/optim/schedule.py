"""The learning rate: a pure function of the settings, the step and the number of steps.

It rises linearly over the warm-up, which is so many steps or a share of all, and then falls from `learning_rate` to
`floor` times as much: along half a cosine, or, as wsd, on a line over the last `decay` of the steps. Nothing is
remembered, so a resumed run needs nothing but its step. A run that is too short for its warm-up and its decay is
refused before it begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer

from schemas.strict import RecipeError
from train.config import OptimiserConfig, Part


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
        assert config.decay is not None
        height = min(1.0, (total - step) / max(1.0, config.decay * total))
    return config.learning_rate * (config.floor + (1 - config.floor) * height)


def refuse_unfit(config: OptimiserConfig, total: int) -> None:
    """Raise RecipeError if the section's rate or a part's is never reached and left again as it should be."""
    parts = [name for name, how in config.parts.items() if isinstance(how, Part)]
    for key, of in [("optimiser", config), *((f"optimiser.parts.{name}", config.of(name)) for name in parts)]:
        rising = of.warmup_steps if of.warmup is None else of.warmup * total  # before a share is rounded
        falling = (of.decay or 0.0) * total
        if rising is None or (rising + falling <= total * (1 + 1e-9) and rising < total):
            continue
        name = "warmup_steps" if of.warmup is None else "warmup"
        decay = f" and a decay over {falling:,g}" if rising < total else ""
        raise RecipeError(
            f"{key}.{name}: a warm-up of {rising:,g} steps{decay} in a run of {total:,}; wanted "
            f"{'both to fit into it' if decay else 'fewer'}, so that learning_rate is reached: give less, or more steps"
        )


def warmup_steps(config: OptimiserConfig, total: int) -> int:
    """A share is rounded up: of a few steps the first is then not the steepest."""
    if config.warmup_steps is not None:
        return config.warmup_steps
    assert config.warmup is not None
    return math.ceil(round(config.warmup * total, 6))  # 0.07 x 100 is 7, not 7.000000000000001
