"""A census of what is ingested: each part is read once, in narrow columns, for all recipes that share it."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pipeline.commands.census.found import Found
from pipeline.commands.census.pool import each
from pipeline.graph.context import Context
from pipeline.graph.errors import MissingInput
from pipeline.graph.stage import Step
from pipeline.steps.samples import parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import read, row_groups
from schemas import strict
from schemas.identity import canonical
from schemas.manifest import ManifestError
from stages.census import COLUMNS, Model, Tally, count
from stages.chat import ChatFormat
from stages.shard_rows import PretokeniseParams

Opened = tuple[Context, Sequence[Step]]


@dataclass(frozen=True)
class ModelAt:
    """A model recipe by what names it: the tokenizer's folder, its parameters as JSON, its verdict files of a part."""

    number: int
    tokenizer: str
    params: str
    verdicts: tuple[tuple[str, str], ...] = ()

    def opened(self) -> Model:
        """Ready to count; a worker loads a tokenizer once."""
        chat, params = _chat(self.tokenizer, self.params)
        return Model(chat, params, {name: read(path) for name, path in self.verdicts})


@dataclass(frozen=True)
class PartJob:
    """A part of so many samples, and every model recipe that reads it."""

    path: str
    rows: int
    models: tuple[ModelAt, ...]


def shards_of(opened: Opened) -> Step:
    """The step that writes a recipe's shards."""
    return next(step for step in opened[1] if step.stage.makes == "shards")


def model_at(number: int, opened: Opened) -> ModelAt:
    """A recipe's model recipe. Raises RecipeError for a tokenizer that can't serve it."""
    context, step = opened[0], shards_of(opened)
    step.stage.foresee(step, context)
    return ModelAt(number, str(context.place("tokenizer")), canonical(asdict(step.params)))


def census(recipes: Sequence[Opened], found: Sequence[Found], workers: int | None) -> None:
    """Fill in what was found of each recipe. Raises MissingInput while a recipe's ingest is not finished."""
    jobs: dict[str, PartJob] = {}
    for number, (opened, one) in enumerate(zip(recipes, found, strict=True)):
        _reject(opened, one)
        judges = _judges(opened)
        one.basis = _basis(opened, judges)
        model = model_at(number, opened)
        for part, (path, rows) in enumerate(_parts(opened)):
            named = replace(model, verdicts=_verdicts(opened, judges, part))
            known = jobs.get(path, PartJob(path, rows, ()))
            jobs[path] = replace(known, models=(*known.models, named))
    largest_first = sorted(jobs.values(), key=lambda job: -job.rows)
    for counted in each(count_part, largest_first, workers):
        for number, tally in counted:
            found[number].tally.add(tally)
    for opened, one in zip(recipes, found, strict=True):
        _check(opened, one)


def count_part(job: PartJob) -> list[tuple[int, Tally]]:
    """The tally of one part under each of its recipes, by the recipe's number; in a worker. Raises ManifestError."""
    try:
        tallies, rows = count(row_groups(job.path, list(COLUMNS)), [model.opened() for model in job.models])
    except ValueError as error:
        raise ManifestError(f"{job.path}: {error}") from None
    if rows != job.rows:
        raise ManifestError(f"{job.path}: {rows:,} samples in it, {job.rows:,} in its manifest; run its stage again")
    return [(model.number, tally) for model, tally in zip(job.models, tallies, strict=True)]


@functools.lru_cache(maxsize=16)
def _chat(folder: str, params: str) -> tuple[ChatFormat, PretokeniseParams]:
    built = strict.build(PretokeniseParams, json.loads(params))
    return ChatFormat.load(folder, built.tokens, built.chat), built


def _parts(opened: Opened) -> list[tuple[str, int]]:
    return [(part.path, part.rows) for part in parts_of(shards_of(opened).making("samples"), opened[0])]


def _reject(opened: Opened, found: Found) -> None:
    """Every source must be ingested; what ingest rejected is told beside what it kept."""
    context = opened[0]
    for step in shards_of(opened).making("samples"):
        manifest = context.manifest(step)
        if manifest is None:
            raise MissingInput(
                f"{step.name} is not finished; run `python -m pipeline run {found.recipe}` first "
                f"(`{step.stage.name}` alone is enough), or count its files as they are: --from headers"
            )
        found.rejected[step.label] = dict(manifest.counts.rejected)


def _judges(opened: Opened) -> list[Step]:
    """The recipe's filters, if all of them are finished."""
    steps = shards_of(opened).making("verdicts")
    return steps if all(opened[0].manifest(step) for step in steps) else []


def _basis(opened: Opened, judges: Sequence[Step]) -> str:
    asked = shards_of(opened).making("verdicts")
    names = ", ".join(step.stage.name for step in asked)
    if judges:
        return f"ingested samples after {names}"
    return f"ingested samples before any filter ({names}: not all finished)" if asked else "ingested samples, no filter"


def _verdicts(opened: Opened, judges: Sequence[Step], part: int) -> tuple[tuple[str, str], ...]:
    folders = [(step.stage.name, opened[0].out / step.folder) for step in judges]
    return tuple((name, str(folder / layout.verdict(part))) for name, folder in folders)


def _check(opened: Opened, found: Found) -> None:
    """Nothing is lost: what was counted is what ingest kept, source by source."""
    context = opened[0]
    for step in shards_of(opened).making("samples"):
        kept = context.finished(step).counts.kept
        groups = found.tally.groups.items()
        counted = sum(group.samples for (source, _), group in groups if source == step.label)
        if counted != kept:
            raise ManifestError(f"{step.name}: {kept:,} samples, but {counted:,} were counted")
