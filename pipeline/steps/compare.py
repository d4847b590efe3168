"""The step `compare`: which samples are duplicates of each other, whatever any filter says of them.

Two phases. Parts are sketched and exchanged by key (stages/duplicates/sketch.py): a task sketches a few parts and
writes one file with a row group for each bucket. Then a task for each bucket reads its row groups of all files and
compares what has a key in common (stages/duplicates/pairs.py). A bucket holds some 100,000 rows however many samples
there are, and only rows whose key is another's too are read whole.

Made of the samples and of what counts as the same alone, so a filter's changed threshold does not touch it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.proof import same_facts
from pipeline.graph.stage import Ending, Facts, Phase, Stage, Step, all_of
from pipeline.graph.task import Done, Job, Record
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import read, row_group, row_groups
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts, Manifest
from stages.duplicates.pairs import MEMBERS, PAIRS, found, repeated
from stages.duplicates.params import DedupeParams
from stages.duplicates.sketch import COLUMNS, SKETCH, sketches

_ROWS = 32_768  # samples that a task sketches, about: with 2 KiB of each image they are 64 MiB
_BUCKET = 100_000  # rows of a bucket, about

_SKETCHES = "sketches"


@dataclass(frozen=True, kw_only=True)
class SketchJob(Job):
    """Neighbouring parts, the number of the first, and the names of all sources in the recipe's order."""

    samples: tuple[Part, ...]
    first: int
    sources: tuple[str, ...]
    params: DedupeParams
    buckets: int


@dataclass(frozen=True, kw_only=True)
class PairsJob(Job):
    """A bucket: a row group in each of some files."""

    groups: tuple[tuple[str, int], ...]
    sources: tuple[str, ...]
    params: DedupeParams


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    if data.dedupe is None:
        return
    parameters = {"unit": data.dedupe.unit, "match": asdict(data.dedupe.match)}
    yield Step(stage, "", parameters, data.dedupe, all_of(before, "samples", data.sources))


def _keys(params: DedupeParams) -> int:
    return 1 if params.unit == "sample" else params.match.radius + 1


def _split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    parts = parts_of(step.making("samples"), context)
    rows = sum(part.rows for part in parts) * _keys(step.params)
    sources = tuple(context.recipe.data.sources)
    return [
        SketchJob(
            amount=sum(part.rows for part in share),
            parts=len(share),
            samples=share,
            first=first,
            sources=sources,
            params=step.params,
            buckets=max(1, math.ceil(rows / _BUCKET)),
        )
        for first, share in _shares(parts)
    ]


def _shares(parts: Sequence[Part]) -> Iterator[tuple[int, tuple[Part, ...]]]:
    share: list[Part] = []
    for number, part in enumerate(parts):
        if share and sum(one.rows for one in share) + part.rows > _ROWS:
            yield number - len(share), tuple(share)
            share = []
        share.append(part)
    if share:
        yield len(parts) - len(share), tuple(share)


def _sketch(job: SketchJob, writer: PartWriter) -> Done:
    table = pa.concat_tables([SKETCH.empty_table(), *_sketched(job)]).combine_chunks()
    held = pc.value_counts(table["bucket"]).to_pylist()
    sizes = sorted((one["values"], one["counts"]) for one in held)
    ordered = table.take(pc.sort_indices(table, [("bucket", "ascending"), ("part", "ascending"), ("row", "ascending")]))
    starts = [sum(size for _, size in sizes[:number]) for number in range(len(sizes))]
    groups = (ordered.slice(start, size) for start, (_, size) in zip(starts, sizes, strict=True))
    writer.write(f"sketches-{writer.number:05d}.parquet", SKETCH, groups)
    counts: dict[str, Counts] = {}
    for part in job.samples:
        counts[part.source] = counts.get(part.source, Counts()) + Counts(part.rows, part.rows)
    return Done(counts, {"buckets": sizes})


def _sketched(job: SketchJob) -> Iterator[pa.Table]:
    for number, part in enumerate(job.samples, job.first):
        source, first = job.sources.index(part.source), 0
        for samples in row_groups(part.path, list(COLUMNS)):
            yield sketches(samples, number, first, source, job.params, job.buckets)
            first += samples.num_rows


def _split_buckets(step: Step, context: Context, sketched: Sequence[Record]) -> list[Job]:
    folder, groups, rows = context.out / step.folder / _SKETCHES, dict[int, list[tuple[str, int]]](), dict[int, int]()
    for record in sketched:
        for group, (bucket, size) in enumerate(record.facts["buckets"]):
            groups.setdefault(bucket, []).append((str(folder / record.files[0].name), group))
            rows[bucket] = rows.get(bucket, 0) + size
    sources = tuple(context.recipe.data.sources)
    return [
        PairsJob(amount=rows[bucket], groups=tuple(groups[bucket]), sources=sources, params=step.params)
        for bucket in sorted(groups)
    ]


def _compare(job: PairsJob, writer: PartWriter) -> Done:
    heads = pa.concat_tables([row_group(path, number, ["key", "home", "source"]) for path, number in job.groups])
    mine = repeated(heads["key"])
    rows, start = [], 0
    for path, number in job.groups:
        size = row_group(path, number, ["home"]).num_rows
        chosen = mine[start : start + size]
        start += size
        if chosen.any():
            rows += row_group(path, number).filter(pa.array(chosen)).to_pylist()
    pairs, members = found(rows, job.params.match)
    writer.write(f"pairs-{writer.number:05d}.parquet", PAIRS, [pairs])
    writer.write(f"members-{writer.number:05d}.parquet", MEMBERS, [members])
    at_home = pc.value_counts(heads.filter(heads["home"])["source"]).to_pylist()
    return Done({job.sources[one["values"]]: Counts(one["counts"], one["counts"]) for one in at_home})


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    rows = [file.rows or 0 for record in ending.records for file in record.files if layout.is_a("pairs", file.name)]
    return Facts({"pairs": sum(rows)}, note=f"; {sum(rows):,} pairs")


def _verify(folder: Path, manifest: Manifest) -> None:
    names = [file.name for file in manifest.files if layout.is_a("pairs", file.name)]
    same_facts(folder, manifest, {"pairs": sum(read(folder / name, schema=PAIRS).num_rows for name in names)})


COMPARE = Stage(
    name="compare",
    number=3,
    version=1,
    makes="pairs",
    reasons={},
    steps=_steps,
    phases=(Phase(_split, _sketch, name=_SKETCHES), Phase(_split_buckets, _compare, word="buckets")),
    absent="no section data.dedupe",
    finish=_finish,
    verify=_verify,
)
