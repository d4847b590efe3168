"""The step `dedupe`: of samples that are duplicates, who stays; a verdict for every sample.

It follows every other filter and reads their verdicts, so that a duplicate is only ever dropped in favour of a sample
that all of them keep. Two phases: the choice, one task over the pairs that `compare` found, as columns of some hundred
bytes each; then the verdicts of each part.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.stage import Earlier, Ending, Facts, Phase, Replay, Stage, Step, all_of
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
    pairs, members = (_compared(step, context, kind) for kind in ("pairs", "members"))
    judges = tuple(str(context.out / judge.folder) for judge in step.making("verdicts"))
    parts = len(parts_of(step.making("samples"), context))
    return [
        ChoiceJob(amount=len(pairs), pairs=pairs, members=members, verdicts=judges, num_parts=parts, params=step.params)
    ]


def _compared(step: Step, context: Context, kind: str) -> tuple[str, ...]:
    """The files of some kind of the step that compares."""
    (compared,) = step.making("pairs")
    folder, names = context.out / compared.folder, [file.name for file in context.finished(compared).files]
    return tuple(str(folder / name) for name in names if layout.is_a(kind, name))


def _choose(job: ChoiceJob, writer: PartWriter) -> Done:
    table = _chosen(job.pairs, job.members, functools.partial(_gone, job.verdicts), job.params)
    exchange.write(writer, _CHOICE, table, table["part"].to_numpy(), job.num_parts)
    return Done({})


def _chosen(
    pairs: Iterable[str], members: Iterable[str], gone: Callable[[int], np.ndarray], params: DedupeParams
) -> pa.Table:
    """CHOICE rows, from the files of the step that compares."""
    links = pa.concat_tables([LINKS.empty_table(), *(read(path, LINKS.names, LINKS) for path in pairs)])
    those = pa.concat_tables([MEMBERS.empty_table(), *(read(path, schema=MEMBERS) for path in members)])
    return chosen(links, those, gone, params)


def _gone(folders: Iterable[str], part: int) -> np.ndarray:
    """bool [rows of a part]: whether a filter drops the sample."""
    return _any(read(Path(folder) / layout.verdict(part), ["reason"])["reason"] for folder in folders)


def _any(reasons: Iterable[pa.ChunkedArray]) -> np.ndarray:
    found: list[Any] = [pc.is_valid(column).to_numpy() for column in reasons]
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


def _replay(before: Step, after: Step, context: Context, earlier: Earlier) -> Replay:
    """The same choice with other verdicts, in memory."""
    pairs, members = (_compared(before, context, kind) for kind in ("pairs", "members"))
    table = _chosen(
        pairs, members, lambda part: _any(verdict["reason"] for verdict in earlier(part).values()), after.params
    )
    parts = table["part"].to_numpy()
    ids = context.out / before.folder

    def judged(number: int) -> pa.Table:
        start, end = np.searchsorted(parts, [number, number + 1]).tolist()
        samples = read(ids / layout.verdict(number), ["sample_id"])["sample_id"]
        return verdicts(samples, table.slice(start, end - start)).select(["sample_id", "reason"])

    return judged


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
    replay=_replay,
    verify=_verify,
)
