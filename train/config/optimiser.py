"""The section `optimiser`: how the parts of a model learn, and how the loss is weighed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from train.config.checks import MOST, within


@dataclass(frozen=True)
class OptimiserConfig:
    matrices: Literal["muon", "adamw"]
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    clip: float
    schedule: Literal["cosine", "wsd"]
    weigh: Literal["tokens", "samples", "sqrt"] = "tokens"

    def __post_init__(self) -> None:
        within(self, 0, MOST, "warmup_steps", "weight_decay")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted more than 0")
