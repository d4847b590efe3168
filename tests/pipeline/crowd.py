"""A stage that no recipe knows: of samples whose texts have a key in common only the first few stay.

It is written as a new stage would be, and shows what the contract has to give one: two phases (a part -> a bucket file
for each of its keys; the buckets -> verdicts, in the order of the parts), and everything else by the rows around it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.graph.context import Context
from pipeline.graph.stage import Phase, Stage, Step, all_of
from pipeline.graph.task import Done, Job, Record
from pipeline.steps.samples import Part, parts_of
from pipeline.steps.table import STAGES
from pipeline.storage import layout
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts
from schemas.verdict import verdict_schema
from stages.filters.text_key import texts
from stages.stage import check_verdict, counts

KEYS, MOST = 3, 5
BUCKET = pa.schema([("sample_id", pa.string())])
VERDICT = verdict_schema(pa.schema([("key", pa.int32())]))
REASONS = {"crowded": "enough samples before it have its key"}


@dataclass(frozen=True, kw_only=True)
class PartJob(Job):
    """A part; in the second phase, the buckets of all parts for the keys that it has."""

    part: Part
    buckets: tuple[str, ...] = ()


def key(messages: Sequence[Any]) -> int:
    return sum(map(len, texts(messages))) % KEYS


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    yield Step(stage, "", {"most": MOST}, None, all_of(before, "samples", context.recipe.data.sources))


def _split(step: Step, context: Context, _: Sequence[Record]) -> list[PartJob]:
    return [PartJob(amount=part.rows, part=part) for part in parts_of(step.making("samples"), context)]


def _sketch(job: PartJob, writer: PartWriter) -> Done:
    table = pq.read_table(job.part.path, columns=["sample_id", "messages"])
    keys = [key(messages) for messages in table["messages"].to_pylist()]
    for one in sorted(set(keys)):
        ids = [name for name, its in zip(table["sample_id"].to_pylist(), keys, strict=True) if its == one]
        writer.write(f"bucket-{one}-{writer.number:05d}.parquet", BUCKET, [pa.table([ids], BUCKET)])
    return Done({job.part.source: Counts(len(keys), len(keys))}, {"keys": sorted(set(keys))})


def _split_again(step: Step, context: Context, sketched: Sequence[Record]) -> list[PartJob]:
    folder = context.out / step.folder / "sketches"
    names = [file.name for record in sketched for file in record.files]
    return [
        PartJob(
            amount=job.amount,
            part=job.part,
            buckets=tuple(str(folder / n) for n in names if int(n.split("-")[1]) in record.facts["keys"]),
        )
        for job, record in zip(_split(step, context, ()), sketched, strict=True)
    ]


def _judge(job: PartJob, writer: PartWriter) -> Done:
    seen: Counter[int] = Counter()
    judged: dict[str, tuple[int, str | None]] = {}
    for path in job.buckets:
        one = int(Path(path).name.split("-")[1])
        for name in pq.read_table(path, schema=BUCKET)["sample_id"].to_pylist():
            judged[name] = (one, None if seen[one] < MOST else "crowded")
            seen[one] += 1
    ids = pq.read_table(job.part.path, columns=["sample_id"])["sample_id"]
    found = [judged[name] for name in ids.to_pylist()]
    verdict = pa.table([ids, [reason for _, reason in found], [one for one, _ in found]], schema=VERDICT)
    check_verdict(verdict, ids, REASONS, "crowd")
    writer.write(layout.verdict(writer.number), VERDICT, [verdict])
    return Done({job.part.source: counts(verdict)})


CROWD = Stage(
    name="crowd",
    number=6,
    version=1,
    makes="verdicts",
    reasons=REASONS,
    steps=_steps,
    phases=(Phase(_split, _sketch, name="sketches"), Phase(_split_again, _judge)),
)

TABLE: dict[str, Stage] = {stage.name: stage for stage in (*list(STAGES.values())[:-1], CROWD, STAGES["pretokenise"])}
