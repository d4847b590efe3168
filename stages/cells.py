"""How many rows and tokens there are of each source, subset, language and licence: cells.

A part counts its own cells, as many as there are in it. A whole step adds them up and tells of the MOST largest; the
rarer ones are folded into one cell a source, which says how many they were. Folded is what is exact by then, so parts
and workers change nothing, and nothing is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.shard import COUNTS

CELLS = "cells"  # the fact
KEYS = ("source", "subset", "language", "licence")
MOST = 500

# What is read of SAMPLE to count samples by cells
COLUMNS = ("source", "subset", "declared_language", "licence")
DECLARED = "declared_language"

Cells = list[list[Any]]
"""[*KEYS, {what: how much}] of each cell, in order."""


def counted(table: pa.Table, amounts: Mapping[str, pa.ChunkedArray | pa.Array | None]) -> Cells:
    """The cells of rows that have KEYS. `amounts`: numbers of each row, to be added up; None counts rows."""
    keys = {name: table[name].cast(pa.string()) for name in KEYS}
    ones = pa.repeat(pa.scalar(1, pa.int64()), table.num_rows)
    numbers = {name: ones if one is None else one.cast(pa.int64()) for name, one in amounts.items()}
    sums = pa.table({**keys, **numbers}).group_by(list(KEYS)).aggregate([(name, "sum") for name in numbers])
    found = [
        [*(row[name] for name in KEYS), {name: row[f"{name}_sum"] or 0 for name in numbers}] for row in sums.to_pylist()
    ]
    return sorted(found, key=_named)


def judged(samples: pa.Table, verdict: pa.Table) -> Cells:
    """The cells of a part's samples, with how many rows and how many of them are kept.

    `samples`: their COLUMNS; the language is the verdict's own, if it says one."""
    spoken = verdict["language"] if "language" in verdict.column_names else samples[DECLARED]
    columns = {**{name: samples[name] for name in KEYS if name != "language"}, "language": spoken}
    return counted(pa.table(columns), {"rows": None, "kept": pc.is_null(verdict["reason"])})


def declared(samples: pa.Table) -> Cells:
    """The cells of samples in the language that their source declares."""
    columns = {name: samples[DECLARED if name == "language" else name] for name in KEYS}
    return counted(pa.table(columns), {"rows": None})


def of_shard(rows: pa.Table) -> Cells:
    """The cells of a shard's rows, with their tokens."""
    return counted(rows, {"rows": None, **{name: rows[name] for name in COUNTS}})


def added(parts: Iterable[Cells]) -> Cells:
    """The cells of several counts together."""
    sums: dict[tuple[str | None, ...], Counter[str]] = {}
    for cells in parts:
        for *names, amounts in cells:
            sums.setdefault(tuple(names), Counter()).update(amounts)
    return sorted(([*names, dict(amounts)] for names, amounts in sums.items()), key=_named)


def told(parts: Iterable[Cells]) -> list[dict[str, Any]]:
    """The fact: the largest cells, the largest first; then for each source that has more, one of what is `folded`."""
    ordered = sorted(added(parts), key=lambda cell: (-cell[-1]["rows"], _named(cell)))
    large = [{**dict(zip(KEYS, cell, strict=False)), **cell[-1]} for cell in ordered[:MOST]]
    rest: dict[str, Counter[str]] = {}
    for source, *_, amounts in ordered[MOST:]:
        rest.setdefault(source, Counter()).update({"folded": 1, **amounts})
    return [*large, *({"source": source, **dict(amounts)} for source, amounts in sorted(rest.items()))]


def total(cells: Iterable[Mapping[str, Any]], what: str) -> int:
    """How much there is of something in all cells of the fact."""
    return sum(int(cell[what]) for cell in cells)


def _named(cell: list[Any]) -> tuple[str, ...]:
    return tuple("" if name is None else f" {name}" for name in cell[: len(KEYS)])
