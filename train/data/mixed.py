"""The samples of each step of a mixture: low-discrepancy draws, so that shares are exact at every step.

Mixed steps. A clock runs in units of the weights. At every step each source has had either the draws that fit into its
weight times the clock, or one more; who has one more is decided by who is due first (earliest deadline first, which for
units of one sample each keeps every source within one sample of its share, whatever the weights). For units of tokens
the clock is where the units drawn so far have come to: each source is within one sample's tokens of its share by the
clock, and the clock within about as much of what was drawn.

Single steps. Each step has the samples of one source: the one due first, of those whose share is not yet reached.
Shares are kept to one step then. Each phase of a schedule counts its shares from its own beginning; the sources go on
where they are.

What a step has follows from the steps before it alone, so step n is found by counting up to it: a fraction of a
millisecond a step.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from train.data.draws import Batch
from train.data.index import Labels
from train.data.mixture import Shares
from train.data.packing import PlanError
from train.data.streams import Sizes, Streams

_WEIGHED, _BATCHED = 0, 1
_TRIES = 24
_EXACT = 1e-6  # of a unit: what products of weights and clocks may be off


@dataclass(frozen=True)
class Stretch:
    """So many steps of a kind; None: until every source's limit is reached."""

    steps: int | None
    batches: Literal["mixed", "single"]


@dataclass(frozen=True)
class Mixed:
    """`weighed` and `batched`: units of each sample, of the weights and of the batch."""

    labels: Labels
    shares: Shares
    weighed: Sizes
    batched: Sizes
    batch: Batch
    seed: int
    stretches: tuple[Stretch, ...]

    @functools.cached_property
    def total(self) -> int:
        if None not in (known := [stretch.steps for stretch in self.stretches]):
            return sum(steps or 0 for steps in known)
        return sum(1 for _ in self.steps())

    @property
    def steps_per_epoch(self) -> int:
        return self.total

    def steps(self, start: int = 0) -> Iterator[np.ndarray]:
        drawing = _Drawing(self)
        number = 0
        for stretch in self.stretches:
            drawing.begin(single=stretch.batches == "single")
            done = 0
            while done != stretch.steps:
                before = drawing.taken
                if not drawing.step():
                    if stretch.steps is not None:
                        raise PlanError(f"data.mixture.caps: all samples are used up after step {number}; raise them")
                    break
                if number >= start:
                    yield drawing.streams.between(before, drawing.taken)
                drawing.streams.forget(drawing.taken)
                number, done = number + 1, done + 1

    def identity(self) -> dict[str, Any]:
        weights = {name: float(x) for name, x in zip(self.labels.names, self.shares.weights, strict=True)}
        limits = {name: int(x) for name, x in zip(self.labels.names, self.shares.limits, strict=True)}
        stretches = [f"{stretch.steps} {stretch.batches}" for stretch in self.stretches]
        return {
            "seed": self.seed,
            f"batch_{self.batch.unit}": self.batch.size,
            "schedule": ", ".join(stretches),
            "mixture": {"weights": weights, "limits": limits},
        }


class _Drawing:
    """How far each source has come; a step at a time."""

    def __init__(self, of: Mixed) -> None:
        used = np.flatnonzero(of.shares.weights > 0)
        self.weights, self.limits, self.size = of.shares.weights[used], of.shares.limits[used], of.batch.size
        members = _members(of.labels.codes, used, len(of.labels.names))
        self.streams = _streams(of, used, members, self.limits)
        weighed, batched = self.streams.units
        self.weighed_per_batched = 1 / float((self.weights * batched / weighed).sum())
        self.tolerance = 0.5 if of.weighed is None else float(of.weighed.max()) / 2
        self.counted = of.weighed is None and of.batched is not None
        self.taken = np.zeros(len(used), np.int64)

    def begin(self, single: bool) -> None:
        """Shares count from here."""
        self.single = single
        self.origin = self.streams.sums(_WEIGHED, self.taken)
        self.behind = 0  # units of the batch that are still to be drawn
        self.clock = 0.0

    def step(self) -> bool:
        """One step further; whether there was anything to draw."""
        if not (self.taken < self.limits).any():
            return False
        before = self.streams.sums(_BATCHED, self.taken)
        if self.single:
            self.taken = self._single()
        else:
            allowed = self.behind + self.size
            self.taken = self._budgeted(allowed) if self.counted else self._mixed(allowed)
            self.behind = allowed - int((self.streams.sums(_BATCHED, self.taken) - before).sum())
        return True

    def _mixed(self, allowed: int) -> np.ndarray:
        """Counts after a step of so many units of the batch: the clock is moved until the step is full, and stands
        where the units drawn have come to."""
        low, high, clock = self.clock, np.inf, self.clock + allowed * self.weighed_per_batched
        best: tuple[float, float, np.ndarray] | None = None
        short = self.taken
        for _ in range(_TRIES):
            counts, left = self._at(clock, allowed)
            if left < 0:
                high = clock
                clock = (low + high) / 2
            elif left:
                low, short = clock, counts
                clock = min(clock + left * self.weighed_per_batched, (clock + high) / 2)
            else:
                apart = self._apart(counts, clock)
                if best is None or abs(apart) < best[0]:
                    best = abs(apart), clock, counts
                if abs(apart) <= self.tolerance:
                    break
                clock = min(max(clock + apart, low), high)
        if best is None:
            return self._filled_up(short, allowed)
        self.clock = best[1]
        return best[2]

    def _budgeted(self, allowed: int) -> np.ndarray:
        """The same where weights are of samples and the batch of tokens: the clock is the number of samples, the
        largest found whose tokens are allowed."""
        drawn = int((self.taken - self.origin).sum())
        low, high = self.clock, np.inf
        best, clock = self.taken, low + max(1, int(allowed * self.weighed_per_batched))
        for _ in range(_TRIES):
            counts, _ = self._at(clock, int(clock) - drawn, _WEIGHED)
            over = self._batched(counts) - allowed
            if over <= 0:
                low, best = clock, counts
            else:
                high = clock
            if high - low <= 1 or not (best < self.limits).any():
                break
            clock = max(low + 1, min(high - 1, clock - round(over * self.weighed_per_batched)))
        self.clock = low
        return best

    def _at(self, clock: float, allowed: int, kind: int = _BATCHED) -> tuple[np.ndarray, int]:
        """Counts at a clock, and the units that nobody due takes; below 0: the clock is too far."""
        units = self.weights * clock + self.origin
        floor = self.streams.reached(_WEIGHED, units + _EXACT)
        counts = np.minimum(np.maximum(floor, self.taken), self.limits)
        left = allowed - int((self.streams.sums(kind, counts) - self.streams.sums(kind, self.taken)).sum())
        if left < 0:
            return counts, left
        may = np.flatnonzero((counts == floor) & (counts < self.limits))
        # a source that stands at its share to the unit has nothing begun that could be taken ahead
        may = may[self.streams.sums(_WEIGHED, counts[may], may) < units[may] - _EXACT]
        due = self._due(may, counts[may] + 1, kind)
        sums = np.cumsum(due[1])
        number = int(np.searchsorted(sums, left, "right"))
        counts[due[0][:number]] += 1
        left -= int(sums[number - 1]) if number else 0
        full = number < len(may) or not (counts < self.limits).any()
        return counts, 0 if full else left

    def _due(self, sources: np.ndarray, counts: np.ndarray, kind: int) -> tuple[np.ndarray, np.ndarray]:
        """Sources by when they are due to come to such counts, and the units of each one's last draw."""
        when = (self.streams.sums(_WEIGHED, counts, sources) - self.origin[sources]) / self.weights[sources]
        by = np.argsort(when, kind="stable")
        sources, counts = sources[by], counts[by]
        sums = [self.streams.sums(kind, counts - back, sources) for back in (0, 1)]
        return sources, sums[0] - sums[1]

    def _filled_up(self, counts: np.ndarray, allowed: int) -> np.ndarray:
        """The step's rest from whoever is due, one by one: where limits end the shares."""
        while (may := np.flatnonzero(counts < self.limits)).size:
            first, sizes = self._due(may, counts[may] + 1, _BATCHED)
            if self._batched(counts) + sizes[0] > allowed:
                break
            counts = counts.copy()
            counts[first[0]] += 1
        return counts

    def _batched(self, counts: np.ndarray) -> int:
        """Units of the batch since the step before."""
        return int((self.streams.sums(_BATCHED, counts) - self.streams.sums(_BATCHED, self.taken)).sum())

    def _apart(self, counts: np.ndarray, clock: float) -> float:
        """How far the units drawn are from the clock, by the sources whose limits do not hold them back."""
        units = self.streams.sums(_WEIGHED, counts) - self.origin
        free = (counts < self.limits) | (units > self.weights * clock)
        if not free.any():
            return 0.0
        return float(units[free].sum() / self.weights[free].sum() - clock)

    def _single(self) -> np.ndarray:
        """Counts after a step of one source."""
        open_ = np.flatnonzero(self.taken < self.limits)
        units = (self.streams.sums(_WEIGHED, self.taken) - self.origin)[open_]
        a_step = (self.size * self.streams.units[_WEIGHED] / self.streams.units[_BATCHED])[open_]
        weights = self.weights[open_] / self.weights[open_].sum()
        after = units.sum() + float((weights * a_step).sum())
        due = np.where(units < weights * after * (1 - 1e-12), (units + a_step) / weights, np.inf)
        source = open_[int(due.argmin())]
        counts = self.taken.copy()
        within = self.streams.sums(_BATCHED, self.taken).astype(float)
        counts[source] = self.streams.reached(_BATCHED, within + self.size)[source]
        counts[source] = min(counts[source], self.limits[source])
        return counts


def _members(codes: np.ndarray, used: np.ndarray, number: int) -> list[np.ndarray]:
    """The samples of each used source, ascending."""
    narrow = codes.astype(np.uint16) if number <= 2**16 else codes  # two bytes are sorted in no time
    by = np.argsort(narrow, kind="stable").astype(np.int32)
    ends = np.cumsum(np.bincount(codes, minlength=number))
    return [by[ends[source - 1] if source else 0 : ends[source]] for source in used]


def _streams(of: Mixed, used: np.ndarray, members: list[np.ndarray], limits: np.ndarray) -> Streams:
    """With windows that hold the rest of a pass, and what a step can draw."""
    lengths = np.array([len(found) for found in members])
    batched, largest = lengths, 1
    if of.batched is not None:
        batched = np.array([of.batched[found].sum(dtype=np.int64) for found in members])
        largest = int(of.batched.max())
    passes = 1 + -(-(2 * of.batch.size + 2 * largest) // batched)
    passes = np.maximum(1, np.minimum(passes, -(-limits // lengths)))
    names = [of.labels.names[source] for source in used]
    return Streams(names, members, of.seed, (of.weighed, of.batched), passes)
