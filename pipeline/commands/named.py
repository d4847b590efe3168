"""The other samples of a verdict: the one that it names (a duplicate's better copy, a benchmark's sample), and those
that were dropped in favour of this one. Columns of evidence that hold a sample's id tell: `kept_id`, `benchmark_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.steps.samples import parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import read, rows_of

KEPT, BENCHMARK = "kept_id", "benchmark_id"


def named_by(verdict: Mapping[str, Any]) -> tuple[str, str] | None:
    """(what it is, its id) of the sample that a verdict names."""
    words = {KEPT: "stays instead", BENCHMARK: "of a benchmark"}
    return next(((word, verdict[key]) for key, word in words.items() if verdict.get(key)), None)


def stand_behind(step: Step, context: Context, sample_id: str) -> list[str]:
    """The samples that a step drops in favour of this one."""
    found: list[str] = []
    for number in range(len(parts_of(step.making("samples"), context))):
        path = context.out / step.folder / layout.verdict(number)
        if KEPT not in pq.read_schema(path).names:
            return []
        table = read(path, ["sample_id", KEPT])
        found += table.filter(pc.equal(table[KEPT], sample_id))["sample_id"].to_pylist()
    return found


def place_of(steps: Iterable[Step], context: Context, sample_id: str) -> tuple[int, str, int] | None:
    """(part number, file, row in it) of a sample that one of these steps makes; part numbers count over all of them."""
    for number, part in enumerate(parts_of(list(steps), context)):
        row = pc.index(read(part.path, ["sample_id"])["sample_id"], sample_id).as_py()
        if row >= 0:
            return number, part.path, row
    return None


def row_of(path: str, row: int) -> dict[str, Any]:
    """One row of a part, whole, without the images of the others."""
    (table,) = rows_of(path, [row])
    return dict(table.to_pylist()[0])
