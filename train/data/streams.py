"""The samples of each source as an endless stream: pass after pass, each a permutation keyed by (seed, pass, source).

Laid out in memory is a window of whole passes that holds whatever a step can draw; it moves on when a pass is used up.
Beside the samples lie their running sums in the unit of the mixture's weights and in that of the batch, all sources in
one rising array, so that "how far does each source come with so many units" is one binary search for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from train.data import order

Sizes = np.ndarray | None
"""A number of units of each sample; None: each is one unit."""


class Streams:
    """`members`: of each source its samples; `passes`: how many a window holds. Counts of draws are [sources] int64."""

    def __init__(
        self, names: Sequence[str], members: Sequence[np.ndarray], seed: int, sizes: Sequence[Sizes], passes: np.ndarray
    ) -> None:
        self.names, self.members, self.seed, self.sizes = names, members, seed, sizes
        self.lengths = np.array([len(found) for found in members])
        self.windows = passes * self.lengths
        self.starts = np.cumsum(self.windows) - self.windows
        self.base = np.zeros(len(names), np.int64)  # draws before the window
        self.samples = np.empty(self.windows.sum(), np.int32)
        self.units = [self._pass_units(size) for size in sizes]
        # so far apart that no sum within a window comes near the next source's
        self._strides = [int((units * passes).max()) + 2 for units in self.units]
        self._sums = [None if size is None else np.empty(len(self.samples), np.int64) for size in sizes]
        for source in range(len(names)):
            self._lay(source, 0)

    def _pass_units(self, size: Sizes) -> np.ndarray:
        if size is None:
            return self.lengths
        return np.array([size[found].sum(dtype=np.int64) for found in self.members], np.int64)

    def reached(self, kind: int, units: np.ndarray) -> np.ndarray:
        """How many draws of each source stay within so many units; below a window, one less than lie before it."""
        whole: np.ndarray = np.floor(units).astype(np.int64)
        sums = self._sums[kind]
        if sums is None:
            clipped: np.ndarray = np.clip(whole, self.base - 1, self.base + self.windows)
            return clipped
        within = whole - self._before(kind)
        keys = np.arange(len(whole)) * self._strides[kind] + np.clip(within, -1, self._strides[kind] - 2)
        found: np.ndarray = self.base + np.searchsorted(sums, keys, "right") - self.starts - (within < 0)
        return found

    def sums(self, kind: int, counts: np.ndarray, sources: np.ndarray | None = None) -> np.ndarray:
        """The units of the first so many draws of each source, or of some."""
        chosen = np.arange(len(self.names)) if sources is None else sources
        sums = self._sums[kind]
        if sums is None:
            return counts
        within = counts - self.base[chosen]
        inside = sums[self.starts[chosen] + np.maximum(within, 1) - 1] - chosen * self._strides[kind]
        found: np.ndarray = self._before(kind)[chosen] + np.where(within > 0, inside, 0)
        return found

    def between(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The samples of the draws from `first` to before `last` of each source."""
        at = self.starts - self.base
        drawn = np.flatnonzero(last > first)
        return np.concatenate([self.samples[at[i] + first[i] : at[i] + last[i]] for i in drawn])

    def forget(self, counts: np.ndarray) -> None:
        """No draw before these counts is asked for again: windows move on."""
        for source in np.flatnonzero(counts - self.base >= self.lengths).tolist():
            number = int((counts[source] - self.base[source]) // self.lengths[source])
            self.base[source] += number * self.lengths[source]
            self._move(source, number)

    def _before(self, kind: int) -> np.ndarray:
        """The units of the draws before the window."""
        before: np.ndarray = self.base // self.lengths * self.units[kind]
        return before

    def _move(self, source: int, number: int) -> None:
        """What stays of a window goes to its beginning; the rest is laid anew."""
        start, window, length = self.starts[source], self.windows[source], self.lengths[source]
        stays = max(0, window - number * length)
        for kind, array in enumerate([self.samples, *self._sums]):
            if array is not None:
                array[start : start + stays] = array[start + window - stays : start + window]
                if kind:
                    array[start : start + stays] -= number * self.units[kind - 1][source]
        self._lay(source, stays // length)

    def _lay(self, source: int, first: int) -> None:
        """The passes of a window from its `first` on."""
        start, length = self.starts[source], self.lengths[source]
        for number in range(first, self.windows[source] // length):
            turn = int(self.base[source] // length) + number
            placed = slice(start + number * length, start + (number + 1) * length)
            found = order.pass_order(length, self.seed, turn, self.names[source])
            self.samples[placed] = self.members[source][found]
            for kind, sums in enumerate(self._sums):
                if sums is not None:
                    sums[placed] = self.sizes[kind][self.samples[placed]].cumsum(dtype=np.int64)  # type: ignore[index]
                    sums[placed] += source * self._strides[kind] + number * self.units[kind][source]
