"""The section `data`: which samples, in which order, cut into which steps and packs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from train.config.checks import MOST, one_of, path, paths, within


@dataclass(frozen=True)
class Mixture:
    by: Literal["source", "subset"] = "source"
    unit: Literal["samples", "tokens", "targets"] = "samples"
    weights: dict[str, float] | None = None
    repeats: dict[str, float] | None = None
    caps: float | dict[str, float] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and self.repeats is not None:
            raise ValueError("it has weights and repeats; keep one of them")
        for name in ("weights", "repeats"):
            for source, value in (getattr(self, name) or {}).items():
                if not 0 <= value <= MOST:
                    raise ValueError(f"{name}.{source} is {value}, wanted at least 0")
        for value in self.caps.values() if isinstance(self.caps, dict) else [self.caps]:
            if value is not None and not 0 < value <= MOST:
                raise ValueError(f"caps holds {value}, wanted more than 0")


@dataclass(frozen=True)
class Phase:
    """So many steps with batches of one kind."""

    steps: int
    batches: Literal["mixed", "single"]

    def __post_init__(self) -> None:
        within(self, 1, MOST, "steps")


@dataclass(frozen=True)
class DataConfig:
    shards: str | tuple[str, ...] | dict[str, str]
    seed: int
    max_tokens_per_pack: int
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    batch_tokens: int | None = None
    group_by: Literal["length", "modality"] | None = None
    mixture: Mixture | None = None
    schedule: tuple[Phase, ...] = ()
    leave_out: str | None = None

    def __post_init__(self) -> None:
        paths(self, "shards")
        if self.leave_out is not None:
            path(self, "leave_out")
        within(self, 0, MOST, "seed")
        within(self, 1, MOST, "max_tokens_per_pack")
        one_of(self, "epochs", "steps", "schedule")
        one_of(self, "batch_size", "batch_tokens")
        if self.group_by and (self.batch_tokens or self.mixture or self.schedule):
            raise ValueError("group_by goes with batch_size, and with neither mixture nor schedule; take it out")
