"""Samples whose pictures may be the same -> which are, and which nobody can tell without their files.

Signatures are compared position by position (stages/filters/image_match.py). What they say are the same makes edges, as
many as connect them. Where they say that one has to look, each sample is compared by its files with the few before it
that are nearest, so n samples make no more than 8 n candidates. The rest, near by their hashes alone,
are near misses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stages.duplicates.near_misses import Lowest
from stages.duplicates.text_sketch import first_bits
from stages.filters.image_match import LOOK, OTHER, SAME, Fewest, Lot, Match, Pictures, compared, distinct
from stages.images.hashes import DRAWN

_FEW = 8


class Seen(NamedTuple):
    """(left, right, distance) that connect what is the same; (left, right) that are to be looked at; near misses."""

    same: list[tuple[int, int, int]]
    open: list[tuple[int, int]]
    misses: Lowest


def seen(rows: Sequence[Mapping[str, Any]], match: Match) -> Seen:
    """Compare SKETCH rows that have equally many pictures, one at least, and no two of which have the same bytes."""
    positions = [Pictures.of([row["images"][number] for row in rows]) for number in range(len(rows[0]["images"]))]
    firsts, which = distinct(positions)
    looks = [pictures.take(firsts) for pictures in positions]
    groups, few = _Groups(len(firsts)), Fewest(_FEW)
    misses = Lowest(np.array([first_bits(row["content"]) for row in rows], np.uint64))
    for lot in compared(looks, looks, match):
        groups.join(lot.of(SAME))
        few.add(lot.of(LOOK))
        other = lot.of(OTHER)
        misses.add(firsts[other.left], firsts[other.right], other.distance)
    same = [(int(firsts[a]), int(firsts[b]), distance) for a, b, distance in groups.edges]
    again = list(_again(firsts, which))
    sure = np.all([pictures.plain < DRAWN for pictures in positions], axis=0) & (match.mark > 0)
    same += [(first, row, 0) for first, _, row in again if sure[row]]
    pairs = few.pairs()
    apart = groups.labels()[pairs.left] != groups.labels()[pairs.right]
    open_ = {*zip(firsts[pairs.left[apart]].tolist(), firsts[pairs.right[apart]].tolist(), strict=True)}
    open_ |= {(other, row) for first, before, row in again if not sure[row] for other in (first, before)}
    return Seen(same, sorted(open_), misses)


def _again(firsts: np.ndarray, which: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(first, the one before, row) of every row that has the very signatures of an earlier one."""
    before = firsts.tolist()
    for row, look in enumerate(which.tolist()):
        if firsts[look] != row:
            yield int(firsts[look]), before[look], row
        before[look] = row


class _Groups:
    """Rows that edges connect; `edges`: (left, right, distance), only those that connected what was not yet."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))
        self.edges: list[tuple[int, int, int]] = []

    def join(self, lot: Lot) -> None:
        labels = self.labels() if len(lot.left) else np.zeros(0, np.int64)
        new = labels[lot.left] != labels[lot.right] if len(lot.left) else np.zeros(0, bool)
        edges = (lot.left[new].tolist(), lot.right[new].tolist(), lot.distance[new].tolist())
        for left, right, distance in zip(*edges, strict=True):
            a, b = sorted((self._root(left), self._root(right)))
            if a != b:
                self._parent[b] = a
                self.edges.append((left, right, distance))

    def labels(self) -> np.ndarray:
        """int [n]: the first row of each one's group."""
        return np.array([self._root(row) for row in range(len(self._parent))], np.int64)

    def _root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row
