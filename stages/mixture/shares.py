"""How much of each group makes the shares: the largest total that what is there allows.

Samples that the shares treat alike are a class: one group of each key that shares are asked by. With one key, the
classes' parts of the total are the shares themselves; with several, a linear program finds the parts that give the
largest total, and among those the one where the class that loses most loses least. What stays of a class is a beginning
of it in the order of draws, as near to its part as whole samples allow. Totals are tried on one fixed scale, whatever
else is asked, so that a larger one contains every smaller one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stages.mixture.draw import Cell
from stages.mixture.params import FULL, Key, Shares

OTHERS = "others"
_STEP = 1 - 2.0**-13  # of the scale of totals
_STEPS = 1 << 18  # down to one sample of 10^13
_LOOK = 400  # steps down, 5 %, where a total that meets the shares is looked for
_EXACT = 0.001  # of the total


@dataclass(frozen=True)
class Classes:
    """The classes of some cells. `asked`: key -> group -> its part of all, of those that are given any."""

    keys: tuple[Key, ...]
    asked: Mapping[Key, Mapping[str, float]]
    all: tuple[tuple[str, ...], ...]

    def of(self, cell: Cell) -> tuple[str, ...]:
        """The class of a cell; with a group that is given nothing, too."""
        return tuple(name if (name := cell.group(key)) in self.asked[key] else OTHERS for key in self.keys)


def classes_of(cells: Sequence[Cell], shares: Shares) -> Classes:
    """The classes that cells are in, in order."""
    asked = {key: {name: p / FULL for name, p in getattr(shares, key).items()} for key in shares.keys}
    for key in shares.keys:
        asked[key][OTHERS] = shares.rest(key) / FULL
    found = Classes(shares.keys, asked, ())
    return Classes(shares.keys, asked, tuple(sorted({found.of(cell) for cell in cells})))


def largest(classes: Classes, held: Mapping[tuple[str, ...], float]) -> float:
    """The largest total that meets the shares with so much of each class; 0: none does."""
    parts = proportions(classes, held)
    return min((held[one] / part for one, part in parts.items() if part > 0), default=0.0)


def proportions(classes: Classes, held: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Each class's part of the total."""
    if len(classes.keys) == 1:
        (groups,) = classes.asked.values()
        there = {one[0] for one in classes.all}
        met = all(name in there for name, part in groups.items() if part)
        return {one: groups[one[0]] if met else 0.0 for one in classes.all}
    return dict(zip(classes.all, _programmed(classes, [held[one] for one in classes.all]), strict=True))


def _programmed(classes: Classes, held: Sequence[float]) -> list[float]:
    from scipy.optimize import linprog

    scale = max(*held, 1.0)
    most = np.array(held, float) / scale
    groups = [(at, name, part) for at, key in enumerate(classes.keys) for name, part in classes.asked[key].items()]
    rows = [[float(one[at] == name) for one in classes.all] + [-part, 0.0] for at, name, part in groups]
    bounds = [(0.0, high) for high in most]
    width = len(most)
    fixed = {"A_eq": np.array(rows), "b_eq": np.zeros(len(rows)), "method": "highs"}
    best = linprog([0.0] * width + [-1.0, 0.0], bounds=[*bounds, (0.0, None), (0.0, 0.0)], **fixed)
    total = float(best.x[width]) if best.success else 0.0
    if total <= _EXACT / scale:
        return [0.0] * width
    # the same total with the least of the keeping rates as high as it can be, in the last column
    least = np.hstack([-np.eye(width), np.zeros((width, 1)), most[:, None]])
    fair = linprog(
        [0.0] * (width + 1) + [-1.0],
        A_ub=least,
        b_ub=np.zeros(width),
        bounds=[*bounds, (total * (1 - 1e-9), None), (0.0, 1.0)],
        **fixed,
    )
    found = (fair if fair.success else best).x
    return [float(x / found[width]) for x in found[:width]]


@dataclass(frozen=True)
class Beginnings:
    """What may stay of each class: its amounts added up in the order of draws, its part of the total, its groups."""

    classes: Classes
    sums: Mapping[tuple[str, ...], np.ndarray]
    parts: Mapping[tuple[str, ...], float]

    def taken(self, at_most: float = np.inf) -> dict[tuple[str, ...], int]:
        """How many samples stay of each class, that meet the shares and come to no more than this."""
        held = [self.sums[one][-1] / part for one, part in self.parts.items() if part > 0 and len(self.sums[one])]
        full = all(len(self.sums[one]) for one, part in self.parts.items() if part > 0)
        top = min(held, default=0.0) if full else 0.0
        low, high = 0, _STEPS
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._total(self._near(top, middle)) <= at_most else (middle + 1, high)
        tried = (self._near(top, low + more) for more in range(_LOOK))
        return next((one for one in tried if self._meets(one)), self._near(top, low))

    def _near(self, top: float, step: int) -> dict[tuple[str, ...], int]:
        total = top * _STEP**step
        return {one: _nearest(sums, self.parts[one] * total) for one, sums in self.sums.items()}

    def amount(self, one: tuple[str, ...], count: int) -> int:
        return int(self.sums[one][count - 1]) if count else 0

    def _total(self, taken: Mapping[tuple[str, ...], int]) -> int:
        return sum(self.amount(one, count) for one, count in taken.items())

    def _meets(self, taken: Mapping[tuple[str, ...], int]) -> bool:
        total = self._total(taken)
        for at, key in enumerate(self.classes.keys):
            for name, part in self.classes.asked[key].items():
                got = sum(self.amount(one, count) for one, count in taken.items() if one[at] == name)
                if abs(got - part * total) > _EXACT * total:
                    return False
        return total > 0


def _nearest(sums: np.ndarray, wanted: float) -> int:
    """How many of the first come nearest to an amount; of two as near, the more."""
    count = int(np.searchsorted(sums, wanted, "right"))
    if count == len(sums):
        return count
    below = float(sums[count - 1]) if count else 0.0
    return count + (below + float(sums[count]) <= 2 * wanted)
