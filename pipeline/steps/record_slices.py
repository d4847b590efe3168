"""The phase `slices`: where the records of a source's files begin and end, found in the workers.

A JSON file must be read through to know its records, a parquet file only its footer. What is found is fine: a slice has
few rows, and whoever cuts parts puts neighbours together, so that small sources fill all cores and large ones have
parts of the size that the recipe names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.stage import Phase, Step
from pipeline.graph.task import Done, Job, Record
from pipeline.steps.source_files import SourceFiles, source_files
from pipeline.storage.part_reader import read
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts, hash_file
from stages.sources.listing import Listed, check_hash, path_of, unchanged
from stages.sources.records.slices import READ_THROUGH, Slice, kind, slices

FINE = 64  # rows of a slice, and of a part at the least
PARTS = 8  # a source has so many parts before they grow: each costs about 20 ms of CPU in every step

_FILES_PER_TASK = 64
_BYTES_PER_TASK = 256 << 20

SLICES = pa.schema(
    [("file", pa.string()), ("first", pa.int64()), ("rows", pa.int64()), ("begin", pa.int64()), ("end", pa.int64())]
)


@dataclass(frozen=True, kw_only=True)
class SliceJob(Job):
    """Record files below `root`, to be cut into slices of `fine` rows."""

    source: str
    root: str
    files: tuple[Listed, ...]
    fine: int


def phase(rows_per_part: Callable[[Step], int]) -> Phase:
    """The phase for steps whose parts have at most so many rows."""

    def split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
        found = source_files(step.making("files")[0], context)
        fine = min(FINE, rows_per_part(step))
        return [
            SliceJob(amount=amount, parts=len(files), source=step.label, root=str(found.root), files=files, fine=fine)
            for files, amount in _shares(found)
        ]

    return Phase(split, _do, name="slices", word="files", unit="bytes")


def _shares(found: SourceFiles) -> Iterator[tuple[tuple[Listed, ...], int]]:
    """The files of each task, and how much there is to be read of them."""
    share: list[Listed] = []
    held = 0
    for file in found.records:
        cost = 0 if kind(file.file) == "parquet" else file.size
        if share and (len(share) == _FILES_PER_TASK or held + cost > _BYTES_PER_TASK):
            yield tuple(share), held
            share, held = [], 0
        share.append(file)
        held += cost
    if share:
        yield tuple(share), held


def _do(job: SliceJob, writer: PartWriter) -> Done:
    tables = [_cut(job, file) for file in job.files]
    writer.write(f"slices-{writer.number:05d}.parquet", SLICES, [pa.concat_tables(tables)])
    rows = sum(pc.sum(table["rows"]).as_py() or 0 for table in tables)
    return Done({job.source: Counts(rows, rows)})


def _cut(job: SliceJob, file: Listed) -> pa.Table:
    """The slices of a file. Raises Changed for one that is not what was listed."""
    path = path_of(job.root, file.file)
    with unchanged(job.root, [file]):
        found = slices(path, file.file, job.fine)
        if kind(file.file) in READ_THROUGH:
            check_hash(file, hash_file(path))
    columns = {name: [getattr(part, name) for part in found] for name in SLICES.names}
    return pa.table(columns, SLICES)


def parts(step: Step, context: Context, records: Sequence[Record], most: int, spread: bool) -> list[Slice]:
    """Slices for the parts of a step, of at most `most` rows each, in the order of the files.

    `spread`: few rows make smaller parts, so that there are about `PARTS` of them, of whole slices.
    """
    folder = context.out / step.folder / "slices"
    names = [file.name for record in records for file in record.files]
    table = pa.concat_tables([SLICES.empty_table(), *(read(folder / name, schema=SLICES) for name in names)])
    fine = min(FINE, most)
    rows = pc.sum(table["rows"]).as_py() or 0
    together = most // fine
    if spread:
        together = min(together, max(1, math.ceil(rows / PARTS / fine)))
    return list(_joined(table, together))


def _joined(table: pa.Table, together: int) -> Iterator[Slice]:
    """`together` neighbours of one file as one slice."""
    columns = [table[name].to_pylist() for name in SLICES.names]
    current: Slice | None = None
    count = 0
    for file, first, rows, begin, end in zip(*columns, strict=True):
        if current is not None and current.file == file and count < together:
            current, count = Slice(file, current.first, current.rows + rows, current.begin, end), count + 1
            continue
        if current is not None:
            yield current
        current, count = Slice(file, first, rows, begin, end), 1
    if current is not None:
        yield current
