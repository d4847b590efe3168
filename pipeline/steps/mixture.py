"""The step `mixture`: limits, caps and shares; a verdict for every sample.

It follows every other filter, and only what all of them keep is counted and chosen. Three phases: each part draws for
its samples, and counts their tokens where the recipe asks for tokens; one task sets the bars, over 24 bytes of every
sample; then the verdicts of each part. What the recipe can't have is said between the first two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.stage import Earlier, Ending, Facts, Phase, Replay, Stage, Step, all_of
from pipeline.graph.task import Done, Job, Record, records_in
from pipeline.steps import filters, part_rows
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import read, row_groups
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts, Manifest
from schemas.strict import RecipeError
from stages.cells import CELLS, judged
from stages.cells import COLUMNS as CELL_COLUMNS
from stages.mixture.choice import BARS, bars, gathered
from stages.mixture.draw import COLUMNS, DRAWN, JUDGED, Amount, Cell, cells, drawn
from stages.mixture.groups import check
from stages.mixture.params import FULL, MixtureParams
from stages.mixture.shares import OTHERS
from stages.mixture.verdicts import REASONS, VERDICT, verdicts
from stages.shard_rows import Dropped, PretokeniseParams, rows_of
from stages.stage import check_verdict, counts

_DRAWS, _CHOICE = "draws", "choice"
_NO_COUNT = ("shard_bytes", "keep_messages")  # of pretokenise's parameters, those that change no sample's tokens


@dataclass(frozen=True, kw_only=True)
class DrawJob(Job):
    """A part, its verdict file of every filter; to count tokens, the tokenizer's folder and how it is used."""

    part: Part
    verdicts: tuple[tuple[str, str], ...]
    seed: int
    tokenizer: str | None
    params: PretokeniseParams


@dataclass(frozen=True, kw_only=True)
class ChoiceJob(Job):
    """(source, draws) of every part, and how many samples are counted."""

    drawn: tuple[tuple[str, str], ...]
    count: int
    params: MixtureParams


@dataclass(frozen=True, kw_only=True)
class VerdictJob(Job):
    """A part, its draws, and the bars."""

    part: Part
    drawn: str
    bars: str
    params: MixtureParams


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    if data.mixture is None:
        return
    inputs = (*all_of(before, "samples", data.sources), *(step for step in before if step.stage.makes == "verdicts"))
    parameters, brought = asdict(data.mixture), dict[str, Step]()
    if data.mixture.by == "tokens":
        counting = {one.name for one in fields(PretokeniseParams)} - {*_NO_COUNT}
        parameters["counts"] = {name: value for name, value in asdict(data.shards).items() if name in counting}
        parameters[layout.TOKENIZER] = context.content.tokenizer
        brought = part_rows.brought(before)
    yield Step(stage, "", parameters, data.mixture, inputs, brought=brought)


def _foresee(step: Step, context: Context) -> None:
    if step.params.by == "tokens":
        part_rows.refuse(step, context, context.recipe.data.shards)


def _split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    folders = {judge.stage.name: context.out / judge.folder for judge in step.making("verdicts")}
    return [
        DrawJob(
            amount=part.rows,
            part=part,
            verdicts=tuple((name, str(folder / layout.verdict(number))) for name, folder in folders.items()),
            seed=step.params.seed,
            tokenizer=part_rows.tokenizer(step, context) if step.params.by == "tokens" else None,
            params=context.recipe.data.shards,
        )
        for number, part in enumerate(parts_of(step.making("samples"), context))
    ]


def _draw(job: DrawJob, writer: PartWriter) -> Done:
    judged = {name: read(path) for name, path in job.verdicts}
    judged = {name: table.select([c for c in table.column_names if c in JUDGED]) for name, table in judged.items()}
    table = _drawn(job, judged)
    writer.write(_draws(writer.number), DRAWN, [table])
    told = [[*cell, amount] for cell, amount in sorted(_amounts(table, job.part.source).items())]
    facts = {"cells": told, "counted": _counted(table)}
    return Done({job.part.source: Counts(table.num_rows, table.num_rows)}, facts)


def _amounts(table: pa.Table, source: str) -> Counter[Cell]:
    """How much there is of every cell of a part, 0 where no sample is counted."""
    own, found = cells(table, source)
    amounts: Counter[Cell] = Counter(dict.fromkeys(found, 0))
    for number, amount in zip(own.tolist(), table["amount"].to_pylist(), strict=True):
        amounts[found[number]] += amount
    return amounts


def _counted(table: pa.Table) -> int:
    return int(pc.sum(pc.greater(table["amount"], 0)).as_py() or 0)


def _drawn(job: DrawJob, judged: Mapping[str, pa.Table]) -> pa.Table:
    """The DRAWN rows of a part."""
    return pa.concat_tables([DRAWN.empty_table(), *_pieces(job, judged)]).unify_dictionaries().combine_chunks()


def _pieces(job: DrawJob, judged: Mapping[str, pa.Table]) -> Iterator[pa.Table]:
    amount, first = _tokens(job.tokenizer, job.params), 0
    for samples in row_groups(job.part.path, list(COLUMNS)):
        mine = {name: verdict.slice(first, samples.num_rows) for name, verdict in judged.items()}
        yield drawn(samples, mine, job.seed, amount)
        first += samples.num_rows


def _tokens(tokenizer: str | None, params: PretokeniseParams) -> Amount | None:
    """Counts the tokens of a sample as it stays: 0 for one that pretokenise will drop."""
    if tokenizer is None:
        return None
    chat = part_rows.chat_format(tokenizer, part_rows.told(params))

    def count(row: Mapping[str, Any]) -> int:
        try:
            return sum(one["num_tokens"] for one in rows_of(row, chat, params)[0])
        except Dropped:
            return 0

    return count


def _draws(number: int) -> str:
    return f"draws-{number:05d}.parquet"


def _split_choice(step: Step, context: Context, drawn: Sequence[Record]) -> list[Job]:
    amounts: Counter[Cell] = Counter()
    for record in drawn:
        for *cell, amount in record.facts["cells"]:
            amounts[Cell(*cell)] += amount
    _check(step.params, amounts)
    folder, count = context.out / step.folder / _DRAWS, sum(record.facts["counted"] for record in drawn)
    parts = parts_of(step.making("samples"), context)
    files = tuple((part.source, str(folder / _draws(number))) for number, part in enumerate(parts))
    return [ChoiceJob(amount=count, parts=len(files), drawn=files, count=count, params=step.params)]


def _check(params: MixtureParams, amounts: Mapping[Cell, int]) -> None:
    try:
        check(params, amounts)
    except ValueError as error:
        raise RecipeError(f"data.mixture.{error}") from None


def _choose(job: ChoiceJob, writer: PartWriter) -> Done:
    parts = ((source, read(path, schema=DRAWN)) for source, path in job.drawn)
    writer.write("bars-00000.parquet", BARS, [bars(gathered(parts, job.count), job.params)])
    return Done({})


def _split_parts(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    folder = context.out / step.folder
    return [
        VerdictJob(
            amount=part.rows,
            part=part,
            drawn=str(folder / _DRAWS / _draws(number)),
            bars=str(folder / _CHOICE / "bars-00000.parquet"),
            params=step.params,
        )
        for number, part in enumerate(parts_of(step.making("samples"), context))
    ]


def _judge(job: VerdictJob, writer: PartWriter) -> Done:
    samples = read(job.part.path, ["sample_id", *CELL_COLUMNS])
    ids = samples["sample_id"]
    table, all_bars = read(job.drawn, schema=DRAWN), read(job.bars, schema=BARS)
    mine = all_bars.filter(pc.equal(all_bars["source"], job.part.source))
    verdict = verdicts(ids, table, job.part.source, mine, job.params.by == "tokens")
    check_verdict(verdict, ids, REASONS, "mixture")
    writer.write(layout.verdict(writer.number), VERDICT, [verdict])
    kept = _kept(job, table, verdict)
    return Done({job.part.source: counts(verdict)}, {"kept": kept, CELLS: judged(samples, verdict)})


def _kept(job: VerdictJob, table: pa.Table, verdict: pa.Table) -> dict[str, dict[str, int]]:
    """Of each key that shares are asked by, how much of each group stays."""
    own, found = cells(table, job.part.source)
    kept: dict[str, Counter[str]] = {key: Counter() for key in job.params.shares.keys}
    stays = pc.is_null(verdict["reason"]).to_pylist()
    for number, amount, stay in zip(own.tolist(), table["amount"].to_pylist(), stays, strict=True):
        if stay and amount:
            for key in job.params.shares.keys:
                name = found[number].group(key)
                kept[key][name if name in getattr(job.params.shares, key) else OTHERS] += amount
    return {key: dict(sorted(amounts.items())) for key, amounts in kept.items()}


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    facts = {**_facts(ending.records), **filters.cells_of(ending.records)}
    met = [f"{key} {_percents(amounts)}" for key, amounts in facts["kept"].items()]
    return Facts(facts, note=f"; {'; '.join(met)}" if met else "")


def _facts(records: Iterable[Record]) -> dict[str, Any]:
    kept: dict[str, Counter[str]] = {}
    for record in records:
        for key, amounts in record.facts["kept"].items():
            kept.setdefault(key, Counter()).update(amounts)
    return {"kept": {key: dict(sorted(amounts.items())) for key, amounts in kept.items()}}


def _percents(amounts: Mapping[str, int]) -> str:
    total = sum(amounts.values())
    return ", ".join(f"{name} {FULL * amount / total:.2f} %" for name, amount in amounts.items())


def _verify(folder: Path, manifest: Manifest) -> None:
    filters.verify(folder, manifest, _facts(records_in(folder, manifest.identity)))


def _replay(before: Step, after: Step, context: Context, earlier: Earlier) -> Replay:
    """The same three phases with other verdicts, in memory: 32 bytes of a sample. Texts are read, and counted where the
    recipe asks for tokens."""
    jobs = [job for job in _split(after, context, ()) if isinstance(job, DrawJob)]
    tables = [_drawn(job, earlier(number)) for number, job in enumerate(jobs)]
    amounts: Counter[Cell] = Counter()
    for job, table in zip(jobs, tables, strict=True):
        amounts.update(_amounts(table, job.part.source))
    _check(after.params, amounts)
    drawn = ((job.part.source, table) for job, table in zip(jobs, tables, strict=True))
    all_bars = bars(gathered(drawn, sum(map(_counted, tables))), after.params)

    def judged(number: int) -> pa.Table:
        ids = read(context.out / before.folder / layout.verdict(number), ["sample_id"])["sample_id"]
        source = jobs[number].part.source
        mine = all_bars.filter(pc.equal(all_bars["source"], source))
        return verdicts(ids, tables[number], source, mine, after.params.by == "tokens").select(["sample_id", "reason"])

    return judged


MIXTURE = Stage(
    name="mixture",
    number=8,
    version=1,
    makes="verdicts",
    reasons=REASONS,
    steps=_steps,
    phases=(
        Phase(_split, _draw, name=_DRAWS),
        Phase(_split_choice, _choose, name=_CHOICE),
        Phase(_split_parts, _judge),
    ),
    absent="no section data.mixture",
    foresee=_foresee,
    finish=_finish,
    replay=_replay,
    verify=_verify,
)
