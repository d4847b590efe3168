"""The last phase of pretokenise: rows and images become shards of a size, in the order of the parts.

A shard takes whole batches of the parts' rows, one after the other, until the next one would make it larger than
`shard_bytes`; so where it is cut depends on nothing but the rows. A task writes one shard: it reads the rows of the
parts that it spans, and the images of the kept samples alone, each of them once. What belongs to a part and not to a
shard, its verdicts, goes along with the shard in which the part begins.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.graph.task import Done, Job, Record
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import layout
from pipeline.storage.commit import commit, commit_text
from pipeline.storage.part_reader import read, row_groups_from
from pipeline.storage.part_writer import PartWriter
from schemas import manifest, shard_map
from schemas.manifest import Counts, FileEntry, ManifestError
from schemas.shard import INDEX, ROWS, SHARD
from stages.cells import CELLS, Cells, added, of_shard
from stages.pretokenise import VERDICT, ledger, totals
from stages.shard_images import Damaged, PartImages, with_images

PHASE = "rows"  # the folder of the phase before, in that of the step


@dataclass(frozen=True)
class Span:
    """Batches [first, last) of a part's rows: the file of these, and the part that has the images."""

    number: int
    part: Part
    rows: FileEntry
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class ShardJob(Job):
    """What lies in one shard. `begun`: the parts that begin in it; `tokenizer`: its files, if they go along.

    `folder`: of the phase before; `facts`: what the first shard's record says of the tokenizer.
    """

    folder: str
    spans: tuple[Span, ...]
    begun: tuple[tuple[int, str], ...]
    tokenizer: tuple[FileEntry, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def split(step: Step, context: Context, before: Sequence[Record]) -> list[Job]:
    """A job for each shard; at least one where there is a part."""
    folder = context.out / step.folder / PHASE
    parts = parts_of(step.making("samples"), context)
    jobs: list[Job] = []
    for spans, begun, amount in _cut(before, parts, step.params.shard_bytes):
        along: dict[str, Any] = {} if jobs else _along(before[0])
        sources = tuple((number, parts[number].source) for number in begun)
        jobs.append(ShardJob(amount=amount, folder=str(folder), spans=spans, begun=sources, **along))
    return jobs


def _along(record: Record) -> dict[str, Any]:
    """What goes along with the first shard: the tokenizer, which the first part's task has written."""
    files = tuple(file for file in record.files if file.name.startswith(f"{layout.TOKENIZER}/"))
    return {"tokenizer": files, "facts": {name: of for name, of in record.facts.items() if name != "batches"}}


def _cut(
    records: Sequence[Record], parts: Sequence[Part], most: int
) -> Iterator[tuple[tuple[Span, ...], list[int], int]]:
    """(spans, parts that begin in it, rows) of each shard."""
    spans: list[Span] = []
    begun: list[int] = []
    rows = held = 0
    for record, part in zip(records, parts, strict=True):
        of_part = partial(Span, record.number, part, _file(record))
        first, batches = 0, record.facts["batches"]
        for number, (more, size) in enumerate(batches):
            if rows and held + size > most:
                yield (*spans, *([of_part(first, number)] if number > first else [])), begun, rows
                spans, begun, first, rows, held = [], [], number, 0, 0
            begun += [] if number else [record.number]
            rows, held = rows + more, held + size
        begun += [] if batches else [record.number]
        spans += [of_part(first, len(batches))] if len(batches) > first else []
    if records:
        yield tuple(spans), begun, rows


def _file(record: Record) -> FileEntry:
    return next(file for file in record.files if file.name == layout.rows(record.number))


def do(job: ShardJob, writer: PartWriter) -> Done:
    """Write a shard, its map and index, the verdicts of the parts that begin in it; with the first the tokenizer."""
    index: list[pa.Table] = []
    cells: list[Cells] = []
    writer.write(layout.shard(writer.number), SHARD, _tables(job, writer.number, index, cells))
    _save_map(writer)
    entries = pa.concat_tables([INDEX.empty_table(), *index]).combine_chunks()
    writer.write(layout.index_part(writer.number), INDEX, [entries])
    by_source: dict[str, Counts] = {}
    for number, source in job.begun:
        verdict = read(Path(job.folder) / layout.verdict(number), schema=VERDICT)
        writer.write(layout.verdict(number), VERDICT, [verdict])
        by_source[source] = by_source.get(source, Counts()) + ledger(verdict)
    for file in job.tokenizer:
        _take_along(Path(job.folder), file, writer)
    return Done(by_source, {"rows": entries.num_rows, "totals": totals(entries), CELLS: added(cells), **job.facts})


def _tables(job: ShardJob, shard: int, index: list[pa.Table], cells: list[Cells]) -> Iterator[pa.Table]:
    """The batches of a shard; their entries of the index are appended to `index`, what is in them to `cells`."""
    first = 0
    for span in job.spans:
        try:
            for batch in _batches(Path(job.folder), span):
                index.append(_index(batch, shard, first))
                cells.append(of_shard(pa.Table.from_batches([batch])))
                first += batch.num_rows
                yield pa.Table.from_batches([batch])
        except Damaged as error:
            why = f"{span.part.path}: {error}; delete the folder and run its stage again"
            raise ManifestError(why) from None


def _batches(folder: Path, span: Span) -> Iterator[pa.RecordBatch]:
    """The batches of a span with their images."""
    manifest.check_file(folder, span.rows)  # Arrow's readers trust what they map
    images: PartImages | None = None
    with pa.memory_map(str(folder / span.rows.name)) as source:
        reader = pa.ipc.open_file(source)
        if not reader.schema.equals(ROWS):
            raise ManifestError(f"{folder / span.rows.name}: its columns are not ROWS'; delete it and run again")
        for number in range(span.first, span.last):
            rows = reader.get_batch(number)
            if images is None:
                start, tables = row_groups_from(span.part.path, ["images"], rows["sample"][0].as_py())
                images = PartImages(tables, start)
            yield with_images(rows, images)


def _index(batch: pa.RecordBatch, shard: int, first: int) -> pa.Table:
    size = batch.num_rows
    columns = {name: batch[name] for name in batch.schema.names}
    columns["shard"] = pa.repeat(pa.scalar(shard, pa.int32()), size)
    columns["row"] = pa.array(range(first, first + size), pa.int32())
    return pa.table([columns[name] for name in INDEX.names], schema=INDEX)


def _save_map(writer: PartWriter) -> None:
    """What lies where in the shard, with hashes: the trainer proves each batch before its first use."""
    shard, name = writer.folder / layout.shard(writer.number), layout.shard_map(writer.number)
    commit_text(writer.folder / name, shard_map.survey(shard).to_json())
    writer.add(name)


def _take_along(folder: Path, file: FileEntry, writer: PartWriter) -> None:
    manifest.check_file(folder, file)
    commit(writer.folder / file.name, lambda temporary: shutil.copyfile(folder / file.name, temporary))
    writer.add(file.name)
