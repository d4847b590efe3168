"""What a stage is, and the one place where rows are counted.

A stage has a name, a version (raise it when its output changes for the same input), a parameters type (its section of
the recipe) and a closed list of reasons. There are three kinds, by what they turn into what:

  Ingest      raw records   -> samples + rejects          (stages/ingest.py)
  Filter      narrow columns of samples -> verdicts       (dedupe, decontaminate, language, quality)
  Pretokenise samples + verdicts -> shards                (stages/pretokenise.py)

A filter never sees pixels and never rewrites samples; it returns one verdict row per sample, in order. `check_verdict`
proves that, and `counts` turns verdicts into the ledger: rows in = kept + dropped by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from schemas.manifest import Counts
from schemas.verdict import verdict_schema
from stages.turn_ledger import check_turns, removes_turns

# Tables are made and written in groups of so many rows and bytes, whatever the rows hold: that bounds a worker's
# memory. Few rows also keep nested binary under the 2 GiB that can be read back in one piece (arrow#44164).
GROUP_ROWS, GROUP_BYTES = 128, 64 * 1024 * 1024

Row = TypeVar("Row")


class UndeclaredReason(Exception):
    """A stage gave a reason outside its closed list: a bug in the stage."""


@dataclass(frozen=True)
class Assets:
    """What a filter needs beside its rows: files by name (a model), and the benchmarks' narrow columns.

    `images`: of benchmark samples, by their ids, the files of their images, of those that are at hand."""

    files: Mapping[str, Path] = field(default_factory=dict)
    benchmarks: pa.Table | None = None
    images: Callable[[Iterable[str]], Mapping[str, Sequence[bytes]]] = lambda ids: {}


@dataclass(frozen=True)
class Again:
    """How a filter judges by its evidence alone, as for another threshold.

    judge    (VERDICT rows, `columns` of their samples, parameters) -> a reason for each, and the turns that stay of
             each; None in their place: the filter removes none
    refuse   (parameters as they were, as they would be) -> which key asks for what the evidence doesn't hold, and why
    columns  what it reads of SAMPLE beside the evidence: neither text nor images
    """

    judge: Callable[[pa.Table, pa.Table, Any], tuple[list[str | None], list[list[int] | None] | None]]
    refuse: Callable[[Any, Any], str] = lambda before, after: ""
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filter:
    """A stage that only judges. `judge(table, params, loaded)` gives (reasons, evidence), one entry per row.

    columns   what of SAMPLE it reads; never `images`, but with
    opens_images   whether it may open some: `loaded` is then a pair, whose second gives files by the rows of the table
    evidence  schema of the columns it adds to VERDICT; tells_of_kept: whether what it says of samples that it keeps is
              worth publishing
    load      builds what `judge` needs once per worker (a model, an index); `assets` names the files it may open
    check     before anything runs: raises ValueError for parameters that the files it may open can't serve
    scores, turn_scores  names of the ratings (of the row, of its turns) that its parameters ask for, by their key
    benchmark_columns    what it reads of the benchmarks' samples; none: it doesn't know of them
    named_files          the key of its parameters that lists files it may open; it goes by their content
    again     how it judges by its evidence alone; None: it can't
    """

    name: str
    version: int
    params: type
    reasons: Mapping[str, str]
    columns: tuple[str, ...]
    evidence: pa.Schema
    judge: Callable[[pa.Table, Any, Any], tuple[list[str | None], pa.Table]]
    load: Callable[[Any, Assets], Any] | None = None
    check: Callable[[Any, Assets], None] = lambda params, assets: None
    assets: tuple[str, ...] = ()
    scores: Callable[[Any], Mapping[str, Iterable[str]]] = lambda params: {}
    turn_scores: Callable[[Any], Mapping[str, Iterable[str]]] = lambda params: {}
    benchmark_columns: tuple[str, ...] = ()
    named_files: str = ""
    opens_images: bool = False
    tells_of_kept: bool = True
    again: Again | None = None

    def verdicts(self, table: pa.Table, params: Any, loaded: Any) -> pa.Table:
        """Judge `table` (sample_id + columns) and return checked VERDICT rows with evidence."""
        reasons, evidence = self.judge(table, params, loaded)
        if not evidence.schema.equals(self.evidence):  # by place alone, two swapped columns would pass
            raise ValueError(f"{self.name}: evidence is {evidence.schema.names}, declared is {self.evidence.names}")
        columns = [table["sample_id"], pa.array(reasons, pa.string()), *evidence.columns]
        verdict = pa.Table.from_arrays(columns, schema=verdict_schema(self.evidence)).combine_chunks()
        return check_verdict(verdict, table["sample_id"], self.reasons, self.name)


def grouped(rows: Iterable[Row], size: Callable[[Row], int | None], most: int | None = None) -> Iterator[list[Row]]:
    """Rows in groups of at most GROUP_ROWS and GROUP_BYTES, or `most` bytes if that is less; a larger row is alone.
    Size None: it takes no room."""
    limit = min(GROUP_BYTES, most or GROUP_BYTES)
    group: list[Row] = []
    count = held = 0
    for row in rows:
        more = size(row)
        if more is not None:
            if count and (count == GROUP_ROWS or held + more > limit):
                yield group
                group, count, held = [], 0, 0
            count, held = count + 1, held + more
        group.append(row)
    yield group


def check_verdict(verdict: pa.Table, sample_ids: pa.ChunkedArray, reasons: Iterable[str], stage: str) -> pa.Table:
    """The verdict itself, proven to speak of exactly these samples in this order with declared reasons."""
    if verdict.num_rows != len(sample_ids) or not verdict["sample_id"].equals(sample_ids):
        raise ValueError(f"{stage}: {verdict.num_rows} verdicts don't match {len(sample_ids)} samples row by row")
    check_reasons(verdict["reason"].unique().to_pylist(), reasons, stage)
    if removes_turns(verdict.schema):
        check_turns(verdict, reasons, stage)
    return verdict


def check_reasons(used: Iterable[str | None], declared: Iterable[str], stage: str) -> None:
    """Raise UndeclaredReason for a reason outside the closed list."""
    stray = {reason for reason in used if reason is not None} - set(declared)
    if stray:
        raise UndeclaredReason(f"{stage}: reasons {sorted(stray)} are not declared; known: {sorted(declared)}")


def counts(verdict: pa.Table) -> Counts:
    """The ledger of verdicts: rows in, kept, dropped by reason (sorted)."""
    found = Counter(verdict["reason"].to_pylist())
    kept = found.pop(None, 0)
    return Counts(verdict.num_rows, kept, dict(sorted(found.items())))
