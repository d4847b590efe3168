"""The step `compare`: which samples are duplicates of each other, whatever any filter says of them.

Three phases, and between them rows are exchanged (pipeline/storage/exchange.py), so no task holds more than its share:

  sketches   a task sketches a few parts; rows go to buckets by key (stages/duplicates/sketch.py, text_sketch.py)
  found      a task compares what has a key in common in a bucket: pairs, and candidates that sketches can't decide;
             each goes to the part of its later sample (stages/duplicates/pairs.py, candidates.py)
  the last   a task has what was found of a few parts, each pair once, and decides the candidates by what their samples
             hold (pipeline/steps/verification.py)

A bucket holds some 100,000 samples however many there are, and only rows whose key is another's too are read whole.
Made of the samples and of what counts as the same alone, so a filter's changed threshold does not touch it. Beside the
pairs it leaves `near_misses.parquet`: a uniform sample of what was almost a pair, for a person.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.proof import same_facts
from pipeline.graph.stage import Ending, Facts, Phase, Stage, Step, all_of, ledger
from pipeline.graph.task import Done, Job, Record
from pipeline.steps import verification
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import exchange, layout
from pipeline.storage.part_reader import read, row_groups
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts, Manifest
from schemas.strict import RecipeError
from stages.duplicates.candidates import text_candidates
from stages.duplicates.near_misses import MISSES, smallest
from stages.duplicates.pairs import PAIRS, found, repeated
from stages.duplicates.params import DedupeParams
from stages.duplicates.sketch import COLUMNS, SKETCH, sketches
from stages.duplicates.text_sketch import BANDS, text_bands

# Every bucket reads a block of every task's file, so both grow with the samples up to a bound: 20 million samples are
# 50,000 blocks, a billion 19 million
_ROWS = 32_768  # samples that a task sketches, about, or four times as many: with 2 KiB of each image 64 to 256 MiB
_BUCKET = 100_000  # rows of a bucket, or four times as many; of bands of texts there are twenty times as many
_TASKS = 256

_SKETCHES, _FOUND = "sketches", "found"


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
    """A bucket: its blocks in so many files. `owners`: tasks of the next phase, each of so many parts (`width`)."""

    folder: str
    files: int
    bucket: int
    buckets: int
    owners: int
    width: int
    sources: tuple[str, ...]
    params: DedupeParams


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    if data.dedupe is None:
        return
    parameters = {"unit": data.dedupe.unit, "match": asdict(data.dedupe.match), "text": asdict(data.dedupe.text)}
    yield Step(stage, "", parameters, data.dedupe, all_of(before, "samples", data.sources))


def task_rows(rows: int) -> int:
    """Of so many samples how many a task sketches, about."""
    return min(4 * _ROWS, max(_ROWS, rows // _TASKS))


def bucket_count(rows: int) -> int:
    """Of so many rows how many buckets are made."""
    return max(1, math.ceil(rows / min(4 * _BUCKET, max(_BUCKET, rows // _TASKS))))


def _keys(params: DedupeParams) -> int:
    return params.match.radius + 1 if params.unit == "image" else 1


def _split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    parts = parts_of(step.making("samples"), context)
    rows = sum(part.rows for part in parts)
    sources = tuple(context.recipe.data.sources)
    return [
        SketchJob(
            amount=sum(part.rows for part in share),
            parts=len(share),
            samples=share,
            first=first,
            sources=sources,
            params=step.params,
            buckets=bucket_count(rows * _keys(step.params)),
        )
        for first, share in _shares(parts, task_rows(rows))
    ]


def _shares(parts: Sequence[Part], rows: int) -> Iterator[tuple[int, tuple[Part, ...]]]:
    share: list[Part] = []
    for number, part in enumerate(parts):
        if share and sum(one.rows for one in share) + part.rows > rows:
            yield number - len(share), tuple(share)
            share = []
        share.append(part)
    if share:
        yield len(parts) - len(share), tuple(share)


def _sketch(job: SketchJob, writer: PartWriter) -> Done:
    drawn, texts, bands = [SKETCH.empty_table()], 0, [BANDS.empty_table()]
    for number, part in enumerate(job.samples, job.first):
        source, first = job.sources.index(part.source), 0
        for samples in row_groups(part.path, list(COLUMNS)):
            drawn.append(sketches(samples, number, first, source, job.params, job.buckets))
            if job.params.near_texts:
                bands.append(text_bands(samples, number, first, job.params.text))
            texts += pc.sum(pc.equal(pc.list_value_length(samples["image_info"]), 0)).as_py() or 0
            first += samples.num_rows
    table, near = pa.concat_tables(drawn).combine_chunks(), pa.concat_tables(bands)
    exchange.write(writer, "sketches", table, table["bucket"].to_numpy(), job.buckets)
    exchange.write(writer, "bands", near, near["key"].to_numpy() % np.uint64(job.buckets), job.buckets)
    counts: dict[str, Counts] = {}
    for part in job.samples:
        counts[part.source] = counts.get(part.source, Counts()) + Counts(part.rows, part.rows)
    return Done(counts, {"texts": texts})


def _split_buckets(step: Step, context: Context, sketched: Sequence[Record]) -> list[Job]:
    parts = parts_of(step.making("samples"), context)
    rows = sum(part.rows for part in parts)
    if step.params.unit == "text" and rows and not any(record.facts["texts"] for record in sketched):
        what = f"got text, but each of the {rows:,} samples has pictures"
        raise RecipeError(f"data.dedupe.unit: {what}, and such take no part; write unit: sample, or image")
    width = verification.width(parts, task_rows(rows))
    buckets = bucket_count(rows * _keys(step.params))
    return [
        PairsJob(
            amount=rows * (bucket + 1) // buckets - rows * bucket // buckets,
            folder=str(context.out / step.folder / _SKETCHES),
            files=len(sketched),
            bucket=bucket,
            buckets=buckets,
            owners=math.ceil(len(parts) / width),
            width=width,
            sources=tuple(context.recipe.data.sources),
            params=step.params,
        )
        for bucket in range(buckets if sketched else 0)
    ]


def _compare(job: PairsJob, writer: PartWriter) -> Done:
    folder, mine = Path(job.folder), (job.files, job.bucket, job.buckets)
    columns = ["key", "home", "source"]
    firsts = [exchange.block(folder, "sketches", n, job.bucket, job.buckets, SKETCH, columns) for n in range(job.files)]
    heads = pa.concat_tables([SKETCH.empty_table().select(columns), *(head for head in firsts if head is not None)])
    rows = list(_repeated(job, firsts, repeated(heads["key"])))
    pairs, members, misses, looked_at = found(rows, job.params.match)
    near = text_candidates(exchange.read(folder, "bands", *mine, BANDS), job.params.text)
    for kind, table, part in (
        ("pairs", pairs, "right_part"),
        ("members", members, "part"),
        ("misses", misses, "right_part"),
        ("candidates", pa.concat_tables([looked_at, near]), "right_part"),
    ):
        exchange.write(writer, kind, table, table[part].to_numpy() // job.width, job.owners)
    at_home = pc.value_counts(heads.filter(heads["home"])["source"]).to_pylist()
    return Done({job.sources[one["values"]]: Counts(one["counts"], one["counts"]) for one in at_home})


def _repeated(job: PairsJob, heads: Sequence[pa.Table | None], twice: np.ndarray) -> Iterator[dict[str, Any]]:
    """The rows whose key is another's too; no block is read that has none."""
    start = 0
    for number, head in enumerate(heads):
        mine = twice[start : start + (0 if head is None else head.num_rows)]
        start += len(mine)
        block = _whole(job, number) if mine.any() else None
        if block is not None:
            yield from block.filter(pa.array(mine)).to_pylist()


def _whole(job: PairsJob, number: int) -> pa.Table | None:
    return exchange.block(Path(job.folder), "sketches", number, job.bucket, job.buckets, SKETCH)


def _split_found(step: Step, context: Context, records: Sequence[Record]) -> list[Job]:
    parts = parts_of(step.making("samples"), context)
    came, rows = ledger(records), sum(part.rows for part in parts)
    if (arrived := sum(counts.rows_in for counts in came.values())) != rows:
        raise StepError(f"{step.name}: {rows:,} samples were sketched and {arrived:,} came into buckets; run it again")
    return list(verification.split(step, context, parts, len(records), _FOUND, task_rows(rows)))


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    files = [file for record in ending.records for file in record.files]
    names = [file.name for file in files if layout.is_a("misses", file.name) and file.rows]
    misses = smallest(read(writer.folder / name, schema=MISSES) for name in names)
    writer.write(layout.NEAR_MISSES, MISSES, [misses])
    pairs = sum(file.rows or 0 for file in files if layout.is_a("pairs", file.name))
    return Facts({"pairs": pairs, "near_misses": misses.num_rows}, note=f"; {pairs:,} pairs")


def _notice(step: Step, context: Context) -> str:
    manifest = context.manifest(step)
    if manifest is None or not manifest.facts["near_misses"]:
        return ""
    place = context.out / step.folder / layout.NEAR_MISSES
    return f"{manifest.facts['near_misses']:,} near misses, pairs that are almost duplicates, and why not: {place}"


def _verify(folder: Path, manifest: Manifest) -> None:
    names = [file.name for file in manifest.files if layout.is_a("pairs", file.name)]
    pairs = sum(read(folder / name, schema=PAIRS).num_rows for name in names)
    misses = read(folder / layout.NEAR_MISSES, schema=MISSES).num_rows
    same_facts(folder, manifest, {"pairs": pairs, "near_misses": misses})


COMPARE = Stage(
    name="compare",
    number=3,
    version=3,
    makes="pairs",
    reasons={},
    steps=_steps,
    phases=(
        Phase(_split, _sketch, name=_SKETCHES),
        Phase(_split_buckets, _compare, name=_FOUND, word="buckets"),
        Phase(_split_found, verification.decide),
    ),
    absent="no section data.dedupe",
    finish=_finish,
    notice=_notice,
    verify=_verify,
)
