"""The steps of the filters: parts of samples in, a verdict for every row out, in the same order.

A part is a task. What a filter loads (a model, an index of the benchmarks) is loaded once in every worker and
remembered.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.graph.context import Context
from pipeline.graph.proof import same_facts, same_rows
from pipeline.graph.stage import TURNS, Ending, Facts, Phase, Stage, Step, all_of
from pipeline.graph.task import Done, Job, Record, records_in
from pipeline.steps.replay import replay
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import image_files, read
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts, Manifest, hash_file
from schemas.strict import RecipeError
from stages.cells import CELLS, COLUMNS, judged, told, total
from stages.download import role
from stages.filters.table import FILTERS
from stages.sources.rating_check import may_rate, may_rate_turns
from stages.stage import Assets, Filter, counts
from stages.turn_ledger import COLUMNS as TURN_COLUMNS
from stages.turn_ledger import removes_turns, turn_counts

_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class JudgeJob(Job):
    """A part to be judged by a filter. `assets`: files that it needs; `benchmarks`: parts of theirs."""

    filter: str
    params: Any
    part: Part
    assets: tuple[tuple[str, str], ...]
    benchmarks: tuple[str, ...]


def row(judge: Filter, number: int) -> Stage:
    """The row of a filter in the table of stages."""
    return Stage(
        name=judge.name,
        number=number,
        version=judge.version,
        makes="verdicts",
        reasons=judge.reasons,
        steps=functools.partial(_steps, judge),
        phases=(Phase(functools.partial(_split, judge), _do),),
        finish=functools.partial(_finish, judge),
        absent=f"no section data.{judge.name}, or it is off",
        foresee=functools.partial(_foresee, judge),
        replay=functools.partial(replay, judge),
        verify=functools.partial(_verify, judge),
        require=functools.partial(_require, judge),
    )


def _steps(judge: Filter, stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    params = getattr(data, judge.name)
    if params is None or params == "off":
        return
    found = {name: context.content.asset(name) for name in judge.assets}
    named = _named(judge, params)
    try:
        judge.check(params, Assets({**{name: path for name, (path, _) in found.items()}, **named}))
    except ValueError as error:
        raise RecipeError(f"data.{judge.name}.{error}") from None
    assets: dict[str, Any] = {name: digest for name, (_, digest) in found.items()}
    if judge.named_files:  # it goes by what they hold, and not by where they lie
        assets[judge.named_files] = [hash_file(path) for path in named.values()]
    benchmarks = all_of(before, "samples", data.benchmarks) if judge.benchmark_columns else ()
    inputs = all_of(before, "samples", data.sources)
    yield Step(stage, "", {**asdict(params), **assets}, params, inputs, benchmarks)


def _named(judge: Filter, params: Any) -> dict[str, Path]:
    """The files that a filter's parameters name, by their places there. Raises RecipeError for one that is gone."""
    given = getattr(params, judge.named_files) if judge.named_files else ()
    named = {f"{judge.named_files}[{number}]": Path(name).absolute() for number, name in enumerate(given)}
    for where, path in named.items():
        if not path.is_file():
            raise RecipeError(
                f"data.{judge.name}.{where}: {path}: no such file; paths are relative to the recipe's folder"
            )
    return named


def _split(judge: Filter, step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    benchmarks = tuple(part.path for part in parts_of(step.benchmarks, context))
    places = {**{name: context.content.asset(name)[0] for name in judge.assets}, **_named(judge, step.params)}
    assets = tuple((name, str(place)) for name, place in places.items())
    return [
        JudgeJob(
            amount=part.rows,
            filter=judge.name,
            params=step.params,
            part=part,
            assets=assets,
            benchmarks=benchmarks,
        )
        for part in parts_of(step.making("samples"), context)
    ]


def _do(job: JudgeJob, writer: PartWriter) -> Done:
    judge = FILTERS[job.filter]
    table = read(job.part.path, list(dict.fromkeys(["sample_id", *judge.columns, *COLUMNS])))
    loaded = _loaded(job.filter, job.params, job.assets, job.benchmarks) if judge.load else None
    if judge.opens_images:
        loaded = (loaded, functools.partial(image_files, job.part.path))
    verdict = judge.verdicts(table.combine_chunks(), job.params, loaded)
    writer.write(layout.verdict(writer.number), verdict.schema, [verdict])
    turns = {job.part.source: asdict(turn_counts(verdict))} if removes_turns(judge.evidence) else {}
    return Done({job.part.source: counts(verdict)}, {TURNS: turns, CELLS: judged(table, verdict)})


def _finish(judge: Filter, ending: Ending, writer: PartWriter) -> Facts:
    return Facts({**_turns(judge, ending.records), **cells_of(ending.records)})


def cells_of(records: Iterable[Record]) -> dict[str, Any]:
    """What the samples that were judged have in common, and how many of each are kept, as a fact."""
    return {CELLS: told(record.facts.get(CELLS, []) for record in records)}


def _turns(judge: Filter, records: Iterable[Record]) -> dict[str, Any]:
    """The ledger of turns by source as a fact, of a filter that may remove some."""
    turns: dict[str, Counts] = {}
    for record in records:
        for source, counted in record.facts.get(TURNS, {}).items():
            turns[source] = turns.get(source, Counts()) + Counts(**counted)
    return {TURNS: {name: asdict(counted) for name, counted in turns.items()}} if removes_turns(judge.evidence) else {}


_COUNTED: dict[str, Callable[[Counts], int]] = {"rows": lambda c: c.rows_in, "kept": lambda c: c.kept}

_models: dict[Any, Any] = {}


def _loaded(name: str, params: Any, assets: tuple[tuple[str, str], ...], benchmarks: tuple[str, ...]) -> Any:
    """What a filter's `load` builds, once per worker process; of one filter at a time, for models are large."""
    key = (name, repr(params), assets, benchmarks)
    if key not in _models:
        _models.clear()
        tables = [read(path, list(FILTERS[name].benchmark_columns)) for path in benchmarks]
        all_tables = pa.concat_tables(tables).unify_dictionaries() if tables else None
        places = {
            name: place for path, table in zip(benchmarks, tables, strict=True) for name, place in _ids(path, table)
        }
        images = functools.partial(_images, places)
        given = Assets({asset: Path(place) for asset, place in assets}, all_tables, images)
        load = FILTERS[name].load
        assert load is not None
        _models[key] = load(params, given)
    return _models[key]


def _ids(path: str, table: pa.Table) -> Iterator[tuple[str, tuple[str, int]]]:
    """(sample_id, (part, row))."""
    return ((name, (path, row)) for row, name in enumerate(table["sample_id"].to_pylist()))


def _images(places: Mapping[str, tuple[str, int]], sample_ids: Iterable[str]) -> dict[str, list[bytes]]:
    """The files of the images of benchmark samples, of those that have a place."""
    wanted: dict[str, list[tuple[int, str]]] = {}
    for name in sample_ids:
        if name in places:
            path, row = places[name]
            wanted.setdefault(path, []).append((row, name))
    found = {}
    for path, rows in wanted.items():
        files = image_files(path, sorted(row for row, _ in rows))
        found.update({name: files[row] for row, name in rows})
    return found


def _foresee(judge: Filter, step: Step, context: Context) -> None:
    """A benchmark's training data, and a score that no source can give."""
    if judge.benchmark_columns:
        _refuse_training_data(context)
    sources = context.recipe.data.sources
    listed = {label: functools.partial(_record_files, label, context) for label in sources}
    for key, name in _asked(judge.scores, step):
        if not any(may_rate(name, source, listed[label]) for label, source in sources.items()):
            there = sorted({column for source in sources.values() for column in source.scores})
            why = f"no source rates its rows under that name; its declaration lists {', '.join(there) or 'none'}"
            raise RecipeError(f"data.{judge.name}.{key}.{name}: {why}, and `texts` has columns that end in _min")
    for key, name in _asked(judge.turn_scores, step):
        if not any(may_rate_turns(name, source, listed[label]) for label, source in sources.items()):
            why = "no source rates its turns under that name; `texts` alone does, in columns that end in _ratings"
            raise RecipeError(f"data.{judge.name}.{key}.{name}: {why}")


def _refuse_training_data(context: Context) -> None:
    """Raise RecipeError for a benchmark whose patterns take a train split along.

    Its pictures are what everybody trains on, and to share one is no leak. A split that is called so and is evaluated
    all the same has to be named: the pattern itself says train.
    """
    for name, source in context.recipe.data.benchmarks.items():
        for file in context.content.named(name):
            by = next((pattern for pattern in source.files if fnmatchcase(file.file, pattern)), "train")
            if _TRAIN.search(file.file) and not _TRAIN.search(by):
                what = f"{by!r} takes {file.file} along, which looks like a train split"
                wanted = "name the files of the split that is evaluated, or say train in the pattern if that is the one"
                raise RecipeError(f"data.benchmarks.{name}.files: {what}; {wanted}")


def _asked(scores: Callable[[Any], Mapping[str, Iterable[str]]], step: Step) -> Iterator[tuple[str, str]]:
    """(key, name) of every rating that a step's parameters ask for."""
    return ((key, name) for key, names in scores(step.params).items() for name in names)


def _record_files(label: str, context: Context) -> list[Path] | None:
    """The record files of a source that lies on this machine."""
    if context.fetched(label):
        return None
    source, found = context.recipe.data.sources[label], context.content.named(label)
    return [context.place(label) / file.file for file in found if role(file.file, source) == "records"]


def _verify(judge: Filter, folder: Path, manifest: Manifest) -> None:
    """The ledgers, of samples and of turns, are those of the verdicts."""
    facts = _turns(judge, records_in(folder, manifest.identity))
    names = verify(folder, manifest, facts)
    if facts:
        said = sum((Counts(**counted) for counted in facts[TURNS].values()), Counts())
        verdicts = (read(folder / name, list(TURN_COLUMNS)) for name in names)
        same_rows(folder, "turns", said, sum(map(turn_counts, verdicts), Counts()))


def verify(folder: Path, manifest: Manifest, facts: Mapping[str, Any] | None = None) -> list[str]:
    """The ledger is that of the verdicts; the names of their files. `facts`: what else the manifest must say."""
    names = [file.name for file in manifest.files if layout.is_a("verdict", file.name)]
    found = sum((counts(read(folder / name, ["reason"])) for name in names), Counts())
    same_facts(folder, manifest, {**(facts or {}), **cells_of(records_in(folder, manifest.identity))})
    same_rows(folder, "counts", manifest.counts, found)
    for what in ("rows", "kept"):
        same_rows(folder, f"{what} of its cells", total(manifest.facts[CELLS], what), _COUNTED[what](found))
    return names


def _require(judge: Filter, step: Step, context: Context) -> None:
    """A minimum for a score that no sample has would filter nothing, silently."""
    for column, scores in (("scores", judge.scores), ("turn_scores", judge.turn_scores)):
        known = {name for s in step.making("samples") for name in context.finished(s).facts[column]}
        for key, name in _asked(scores, step):
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                where = f"data.{judge.name}.{key}.{name}"
                raise RecipeError(f"{where}: no sample is rated under that name; there are: {there}")
