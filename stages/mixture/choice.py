"""Who stays of all samples: for every rule and cell that it cuts, the bar below which a draw stays.

A rule takes the samples that the ones before left, in the order of draws, until its number is reached; the draw of the
first that is out is the bar of every cell it cut. So what is chosen among all is told in some numbers a cell, and each
part judges its own samples by them (stages/mixture/verdicts.py).

Memory: a sample that is counted takes 24 bytes, and some 60 while all are put in order: 0.5 GB for 8 million (8 s),
2 GB for 33 million.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from stages.mixture.draw import Cell, cells
from stages.mixture.params import KEYS, MixtureParams
from stages.mixture.shares import Beginnings, Classes, classes_of, proportions

ALL = "all"

BARS = pa.schema(
    [
        *[(name, pa.string()) for name in Cell._fields],
        ("draw", pa.uint64()),
        ("tie", pa.uint64()),
        ("reason", pa.string()),
        ("group", pa.string()),
        ("of", pa.int64()),
        ("stay", pa.int64()),
    ]
)
"""A rule's bar for a cell, in the order in which the rules hold. What there was `of` the group when the rule came, and
of that what should `stay`, in samples or tokens."""


@dataclass
class Samples:
    """All that are counted, in the order of their draws. `alive`: those that no rule has taken out yet."""

    draw: np.ndarray
    tie: np.ndarray
    amount: np.ndarray
    cell: np.ndarray
    cells: Sequence[Cell]
    alive: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.alive = np.ones(len(self.draw), bool)

    def by(self, group: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(group, the places of its living samples in the order of draws); `group`: of each cell, -1 for none."""
        mine = group[self.cell]
        places = np.flatnonzero(self.alive & (mine >= 0))
        mine = mine[places]
        places = places[np.argsort(mine, kind="stable")]
        ends = np.cumsum(np.bincount(mine, minlength=max(group.max(initial=-1) + 1, 0)))
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if end > start:
                yield number, places[start:end]


def gathered(parts: Iterable[tuple[str, pa.Table]], count: int) -> Samples:
    """All counted samples of the (source, DRAWN rows) of parts; `count`: how many they are."""
    draw, tie = np.empty(count, np.uint64), np.empty(count, np.uint64)
    amount, cell = np.empty(count, np.int32), np.empty(count, np.int32)
    known: dict[Cell, int] = {}
    start = 0
    for source, table in parts:
        amounts = table["amount"].to_numpy()
        mine, end = amounts > 0, start + int(np.count_nonzero(amounts))
        own, found = cells(table, source)
        numbers = np.array([known.setdefault(one, len(known)) for one in found], np.int32)
        draw[start:end], tie[start:end] = table["draw"].to_numpy()[mine], table["tie"].to_numpy()[mine]
        amount[start:end], cell[start:end] = amounts[mine], numbers[own[mine]]
        start = end
    if start != count:
        raise ValueError(f"{start:,} samples are counted, their records say {count:,}; delete the folder and run again")
    order = np.lexsort((tie, draw))
    return Samples(draw[order], tie[order], amount[order], cell[order], list(known))


def bars(samples: Samples, params: MixtureParams) -> pa.Table:
    """The BARS of all rules, in the order in which they hold."""
    rows: list[dict[str, Any]] = []
    for reason, group, most in _numbers(samples.cells, params):
        rows += _cut(samples, reason, group, most)
    if params.shares.keys:
        rows += _share(samples, params)
    elif params.at_most is not None:
        rows += _cut(samples, "over_limit", [ALL] * len(samples.cells), {ALL: params.at_most})
    return pa.Table.from_pylist(rows, BARS)


def _numbers(cells: Sequence[Cell], params: MixtureParams) -> Iterator[tuple[str, list[str], dict[str, int]]]:
    """(reason, the group of every cell, group -> at most so many) of caps, then of limits."""
    for key in KEYS:
        group = [cell.group(key) for cell in cells]
        caps = [params.caps.of(key, cell.source) for cell in cells]
        most = {name: cap for name, cap in zip(group, caps, strict=True) if cap is not None}
        yield "over_cap", [f"{key} {name}" for name in group], {f"{key} {name}": cap for name, cap in most.items()}
    for key in KEYS:
        limits = {f"{key} {name}": most for name, most in getattr(params.limits, key).items()}
        yield "over_limit", [f"{key} {cell.group(key)}" for cell in cells], limits


def _cut(samples: Samples, reason: str, group: Sequence[str], most: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Leave so much of each group."""
    names = list(most)
    numbers = {name: number for number, name in enumerate(names)}
    for number, places in samples.by(np.array([numbers.get(name, -1) for name in group], np.int32)):
        sums = np.cumsum(samples.amount[places], dtype=np.int64)
        stay = int(np.searchsorted(sums, most[names[number]], "right"))
        told = {"reason": reason, "group": names[number], "of": int(sums[-1]), "stay": most[names[number]]}
        yield from _out(samples, places, stay, told)


def _share(samples: Samples, params: MixtureParams) -> Iterator[dict[str, Any]]:
    """Leave the largest total that meets the shares; then, if less is wanted, the same of less."""
    classes = classes_of(samples.cells, params.shares)
    group = np.array([classes.all.index(classes.of(cell)) for cell in samples.cells], np.int32)
    places = {classes.all[number]: mine for number, mine in samples.by(group)}
    sums = {one: np.cumsum(samples.amount[mine], dtype=np.int64) for one, mine in places.items()}
    held = {one: float(sums[one][-1]) if one in sums else 0.0 for one in classes.all}
    parts = proportions(classes, held)
    there = {one: sums.get(one, np.empty(0, np.int64)) for one in classes.all}
    start = Beginnings(classes, there, parts)
    taken = start.taken()
    for one, mine in places.items():
        stay = start.amount(one, taken[one])
        told = {"reason": "over_share", "group": _name(classes, one), "of": int(held[one]), "stay": stay}
        yield from _out(samples, mine, taken[one], told)
    if params.at_most is not None:
        total = sum(start.amount(one, taken[one]) for one in places)
        less = start.taken(params.at_most)
        told = {"reason": "over_limit", "group": ALL, "of": total, "stay": params.at_most}
        for one, mine in places.items():
            yield from _out(samples, mine[: taken[one]], less[one], told)


def _name(classes: Classes, one: tuple[str, ...]) -> str:
    return ", ".join(f"{key} {name}" for key, name in zip(classes.keys, one, strict=True))


def _out(samples: Samples, places: np.ndarray, stay: int, told: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Take out all of these samples but the first ones."""
    if stay >= len(places):
        return
    first = places[stay]
    bar = {"draw": int(samples.draw[first]), "tie": int(samples.tie[first])}
    samples.alive[places[stay:]] = False
    for number in np.unique(samples.cell[places]):
        yield {**samples.cells[number]._asdict(), **bar, **told}
