"""Which samples each step has: the orders of whole epochs, cut into steps. mixed.py does the same for mixtures.

A step is the next `size` samples of the epoch's order (the last step of an epoch takes what is left), or so many that
after step t of an epoch t * `size` tokens are reached and not passed: a step's tokens then differ from `size` by less
than those of one sample.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from train.data import order
from train.data.order import Grouping
from train.data.packing import PlanError


@dataclass(frozen=True)
class Batch:
    """How large a step is."""

    size: int
    unit: Literal["samples", "tokens"]

    def check(self, num_tokens: np.ndarray) -> None:
        """So that no step is empty. Raises PlanError."""
        if self.unit == "tokens" and (longest := int(num_tokens.max())) > self.size:
            raise PlanError(f"data.batch_tokens: {self.size}, the longest sample has {longest}; raise it to that")


class Draws(Protocol):
    """What a plan asks for the samples of its steps."""

    @property
    def total(self) -> int:
        """Steps of the whole run."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps after which an epoch ends; all of them, where a run has no epochs."""

    def steps(self, start: int) -> Iterator[np.ndarray]:
        """The samples of step `start` and of every later one."""

    def identity(self) -> dict[str, Any]:
        """What bears on them besides the samples themselves."""


@dataclass(frozen=True)
class Shuffled:
    """Every sample once an epoch, whatever its source. One of `epochs` and `num_steps` is given."""

    num_tokens: np.ndarray
    num_tiles: np.ndarray
    seed: int
    batch: Batch
    epochs: int | None = None
    num_steps: int | None = None
    group_by: Grouping | None = None

    def __post_init__(self) -> None:
        self.batch.check(self.num_tokens)

    @functools.cached_property
    def steps_per_epoch(self) -> int:
        whole = len(self.num_tokens) if self.batch.unit == "samples" else int(self.num_tokens.sum(dtype=np.int64))
        return -(-whole // self.batch.size)

    @property
    def total(self) -> int:
        return self.num_steps if self.num_steps is not None else (self.epochs or 0) * self.steps_per_epoch

    def steps(self, start: int = 0) -> Iterator[np.ndarray]:
        first_epoch, first = divmod(start, self.steps_per_epoch)
        for epoch in range(first_epoch, -(-self.total // self.steps_per_epoch)):
            samples = self.epoch(epoch)
            ends = self._ends(samples)
            last = min(self.steps_per_epoch, self.total - epoch * self.steps_per_epoch)
            for step in range(first if epoch == first_epoch else 0, last):
                yield samples[ends[step] : ends[step + 1]]

    def epoch(self, number: int) -> np.ndarray:
        """All samples, in the order of that epoch."""
        found = order.epoch_order(len(self.num_tokens), self.seed, number)
        if self.group_by == "length":
            return order.by_length(found, self.num_tokens, self.batch.size)
        if self.group_by == "modality":
            return order.by_modality(found, self.num_tiles > 0, self.batch.size, self.seed, number)
        return found

    def _ends(self, samples: np.ndarray) -> np.ndarray:
        """Where step 0 begins, and where each step ends."""
        wanted = np.arange(self.steps_per_epoch + 1, dtype=np.int64) * self.batch.size
        if self.batch.unit == "samples":
            return np.minimum(wanted, len(samples))
        return np.searchsorted(self.num_tokens[samples].cumsum(dtype=np.int64), wanted, "right")

    def identity(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            f"batch_{self.batch.unit}": self.batch.size,
            "epochs": self.epochs,
            "steps": self.num_steps,
            "group_by": self.group_by,
        }
