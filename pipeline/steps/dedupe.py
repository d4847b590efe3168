"""The step `dedupe`: of samples that are duplicates, who stays; a verdict for every sample.

It follows every other filter and reads their verdicts, so that a duplicate is only ever dropped in favour of a sample
that all of them keep. Two phases: the choice, one task over the pairs that `compare` found, as columns of some hundred
bytes each; then the verdicts of each part.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.stage import Ending, Facts, Phase, Stage, Step, all_of
from pipeline.graph.task import Done, Job, Record
from pipeline.steps import filters
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import exchange, layout
from pipeline.storage.part_reader import read
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Manifest
from stages.cells import CELLS, COLUMNS, judged
from stages.duplicates.choice import CHOICE, LINKS, REASONS, VERDICT, chosen, verdicts
from stages.duplicates.pairs import MEMBERS
from stages.duplicates.params import DedupeParams
from stages.stage import check_verdict, counts

_CHOICE = "choice"


@dataclass(frozen=True, kw_only=True)
class ChoiceJob(Job):
    """The files of `compare`, and the folders of the other filters' verdicts; `num_parts`: those of samples."""

    pairs: tuple[str, ...]
    members: tuple[str, ...]
    verdicts: tuple[str, ...]
    num_parts: int
    params: DedupeParams


@dataclass(frozen=True, kw_only=True)
class VerdictJob(Job):
    """A part, one of so many, and the folder of the choice."""

    part: Part
    num_parts: int
    choice: str


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    if data.dedupe is None:
        return
    others = tuple(step for step in before if step.stage.makes in ("pairs", "verdicts"))
    inputs = (*all_of(before, "samples", data.sources), *others)
    yield Step(stage, "", {"prefer": list(data.dedupe.prefer)}, data.dedupe, inputs)


def _split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    (compared,) = step.making("pairs")
    names = [file.name for file in context.finished(compared).files]
    folder = context.out / compared.folder
    found = {kind: [str(folder / name) for name in names if layout.is_a(kind, name)] for kind in ("pairs", "members")}
    judges = tuple(str(context.out / judge.folder) for judge in step.making("verdicts"))
    pairs, members = tuple(found["pairs"]), tuple(found["members"])
    parts = len(parts_of(step.making("samples"), context))
    return [
        ChoiceJob(amount=len(pairs), pairs=pairs, members=members, verdicts=judges, num_parts=parts, params=step.params)
    ]


def _choose(job: ChoiceJob, writer: PartWriter) -> Done:
    pairs = pa.concat_tables([LINKS.empty_table(), *(read(path, LINKS.names, LINKS) for path in job.pairs)])
    members = pa.concat_tables([MEMBERS.empty_table(), *(read(path, schema=MEMBERS) for path in job.members)])
    table = chosen(pairs, members, functools.partial(_gone, job.verdicts), job.params)
    exchange.write(writer, _CHOICE, table, table["part"].to_numpy(), job.num_parts)
    return Done({})


def _gone(folders: Iterable[str], part: int) -> np.ndarray:
    """bool [rows of a part]: whether a filter drops the sample."""
    dropped: list[Any] = [pc.is_valid(read(Path(f) / layout.verdict(part), ["reason"])["reason"]) for f in folders]
    found = [column.to_numpy() for column in dropped]
    return np.logical_or.reduce(found) if found else _Never()  # type: ignore[return-value]


class _Never:
    """No filter, nothing dropped."""

    def __getitem__(self, row: int) -> bool:
        return False


def _split_parts(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    choice = str(context.out / step.folder / _CHOICE)
    parts = parts_of(step.making("samples"), context)
    return [VerdictJob(amount=part.rows, part=part, num_parts=len(parts), choice=choice) for part in parts]


def _judge(job: VerdictJob, writer: PartWriter) -> Done:
    mine = exchange.read(Path(job.choice), _CHOICE, 1, writer.number, job.num_parts, CHOICE)
    samples = read(job.part.path, ["sample_id", *COLUMNS])
    ids = samples["sample_id"]
    verdict = verdicts(ids, mine)
    check_verdict(verdict, ids, REASONS, "dedupe")
    writer.write(layout.verdict(writer.number), VERDICT, [verdict])
    return Done({job.part.source: counts(verdict)}, {CELLS: judged(samples, verdict)})


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    return Facts(filters.cells_of(ending.records))


def _verify(folder: Path, manifest: Manifest) -> None:
    filters.verify(folder, manifest)


DEDUPE = Stage(
    name="dedupe",
    number=7,
    version=3,
    makes="verdicts",
    reasons=REASONS,
    steps=_steps,
    phases=(Phase(_split, _choose, name=_CHOICE), Phase(_split_parts, _judge)),
    absent="no section data.dedupe",
    finish=_finish,
    verify=_verify,
)
