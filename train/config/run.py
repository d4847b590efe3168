"""The section `run`: execution; no result depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from train.config.checks import MOST, optional_within, path, paths, within

_MOST_THREADS = 1024


@dataclass(frozen=True)
class EvaluateConfig:
    """`every`: steps between two evaluations; the last step has one, too. `limit`: of each benchmark only the first."""

    benchmarks: str | tuple[str, ...]
    every: int
    limit: int | None = None

    def __post_init__(self) -> None:
        paths(self, "benchmarks")
        if isinstance(self.benchmarks, str):
            object.__setattr__(self, "benchmarks", (self.benchmarks,))
        within(self, 1, MOST, "every")
        optional_within(self, 1, MOST, "limit")


@dataclass(frozen=True)
class RunConfig:
    out: str
    threads: int
    checkpoint_every: int
    log_every: int
    keep_last: int = 1
    keep_every: int | None = None
    recompute: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    validation: str | tuple[str, ...] | dict[str, str] | None = None
    validate_every: int | None = None
    evaluate: EvaluateConfig | None = None
    tensorboard: bool = False
    ranks_per_copy: int | None = None

    def __post_init__(self) -> None:
        path(self, "out")
        within(self, 1, _MOST_THREADS, "threads")
        within(self, 1, MOST, "checkpoint_every", "log_every", "keep_last")
        optional_within(self, 1, MOST, "keep_every", "validate_every", "ranks_per_copy")
        if self.validation is not None:
            paths(self, "validation")
        if (self.validation is None) != (self.validate_every is None):
            there, lacks = (
                ("validate_every", "validation") if self.validation is None else ("validation", "validate_every")
            )
            raise ValueError(f"it has {there} and no {lacks}; give both or neither")
