"""What a training run would be: steps, epochs and hours from counted tokens and a plan. Arithmetic, nothing else.

A step takes a batch of so many tokens or samples (rows of the shards). Packs are taken for full, as the count of a
published system is: padding in them makes more steps of the same epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from schemas.strict import RecipeError


@dataclass(frozen=True)
class Plan:
    """What is given of a run: the size of a step, how many of them or how many epochs, and how fast tokens go by."""

    batch_tokens: int | None = None
    batch_samples: int | None = None
    steps: int | None = None
    epochs: float | None = None
    tokens_per_second: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise RecipeError(f"--{name.replace('_', '-')}: got {value}, wanted more than 0")
        if self.batch_tokens is not None and self.batch_samples is not None:
            raise RecipeError("--batch-tokens and --batch-samples: both say what a step takes; give one")
        if self.steps is not None and self.epochs is not None:
            raise RecipeError("--steps and --epochs: each follows from the other; give one")
        if self.steps is not None and self.batch is None:
            raise RecipeError("--steps: give --batch-tokens or --batch-samples too, what a step takes")

    @property
    def batch(self) -> int | None:
        return self.batch_tokens or self.batch_samples

    @property
    def asked(self) -> bool:
        return any(value is not None for value in vars(self).values())


@dataclass(frozen=True)
class Budget:
    """A run on so many rows and tokens an epoch. `steps` is None where nothing says what a step takes, `hours` where
    nothing says how fast it is."""

    rows: int
    tokens: int
    epochs: float
    steps: int | None
    tokens_seen: int
    hours: float | None


def budget(plan: Plan, rows: int, tokens: int) -> Budget | None:
    """The budget of one recipe; None if there is nothing to train on. Without steps or epochs it is one epoch."""
    if not rows or not tokens:
        return None
    of_epoch = tokens if plan.batch_tokens else rows
    steps, epochs = plan.steps, plan.epochs or 1.0
    if steps is not None and plan.batch is not None:
        epochs = steps * plan.batch / of_epoch
    elif plan.batch is not None:
        steps = math.ceil(round(epochs * of_epoch / plan.batch, 9))  # a float's last digit is no further step
    seen = round(epochs * tokens)
    hours = seen / plan.tokens_per_second / 3600 if plan.tokens_per_second else None
    return Budget(rows, tokens, epochs, steps, seen, hours)
