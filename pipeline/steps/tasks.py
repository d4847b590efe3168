"""How each stage's part is read, done and written. A task is a name, never data: it goes to a worker as a few strings.

`split` lists a step's tasks; `do` does one of them wherever it runs: read from storage, call the stage's function,
write to storage, then write the part's record `part-NNNNN.json`, last. `finish` makes what belongs to the step as a
whole. Models and tokenizers are loaded once per worker process and remembered.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.graph.build import Step
from pipeline.graph.content import language_model
from pipeline.run.task import Context, Part, Record, Task, recorded, records_of
from pipeline.steps import fetching
from pipeline.storage.part_writer import Files, row_groups
from schemas.manifest import Counts, FileEntry, describe, read
from schemas.sample import REJECT, SAMPLE
from schemas.shard import INDEX, SHARD
from stages import download, stage
from stages.catalogue import FILTERS
from stages.chat import ChatFormat
from stages.fetch_images import Packs
from stages.ingest import ingest
from stages.pretokenise import VERDICT, pretokenise, totals
from stages.sources import column_check as columns
from stages.sources.archives.image_files import ImageFiles, Place, places
from stages.sources.records.slices import read as read_records
from stages.sources.records.slices import slices
from stages.stage import Assets

# ---- splitting a step into tasks


def split(step: Step, context: Context) -> list[Task]:
    """The tasks of a step whose inputs are finished."""
    folder = str(context.out / step.folder)
    base = functools.partial(Task, step.stage, step.identity, folder, params=step.params)
    if step.stage == "download":
        return fetching.download_tasks(step, context, base)
    if step.stage == "collect":
        return fetching.collect_tasks(step, context, base)
    if step.stage == "ingest":
        return _ingest_tasks(step, context, base)
    parts = parts_of(step, context.out)
    if step.stage == "pretokenise":
        return [
            base(
                number=k, rows=p.rows, parts=(p,), verdicts=_verdicts(step, context.out, k), places=_tokenizer(context)
            )
            for k, p in enumerate(parts)
        ]
    benchmarks = tuple(p.path for p in _parts(step.benchmarks, context.out))
    places = {"language_model": str(language_model(context.recipe))} if step.stage == "language" else {}
    if parts and FILTERS[step.stage].scope == "all":
        return [base(number=0, rows=sum(p.rows for p in parts), parts=tuple(parts), benchmarks=benchmarks)]
    return [base(number=k, rows=p.rows, parts=(p,), benchmarks=benchmarks, places=places) for k, p in enumerate(parts)]


def parts_of(step: Step, out: Path) -> list[Part]:
    """Every part of samples that a step reads, numbered over all sources in the recipe's order."""
    return _parts([s for s in step.inputs if s.stage == "ingest"], out)


def _parts(ingests: Sequence[Step], out: Path) -> list[Part]:
    parts = []
    for step in ingests:
        files = [f for f in read(out / step.folder).files if f.name.startswith("part-")]
        parts += [Part(str(out / step.folder / f.name), step.label, f.rows or 0) for f in files]
    return parts


def _ingest_tasks(step: Step, context: Context, base: Callable[..., Task]) -> list[Task]:
    source, params = step.params
    root, files = records_of(step, context, source)
    named = {"root": str(root), "name": step.label}
    if source.urls is not None:
        named["packs"] = str(context.out / step.inputs[1].folder)
    listed = pq.read_table(context.out / step.inputs[0].folder / "files.parquet")["file"].to_pylist()
    images = tuple(places(root, source.image_patterns, listed))
    cut = {file: slices(root / file, file, params.rows_per_part) for file in files}
    columns.check(step.label, source, ((root / file, parts) for file, parts in cut.items()))
    found = [part for parts in cut.values() for part in parts]
    return [base(number=k, rows=part.rows, slice=part, places=named, images=images) for k, part in enumerate(found)]


def _verdicts(step: Step, out: Path, number: int) -> dict[str, str]:
    filters = [s for s in step.inputs if s.stage in FILTERS]
    return {s.stage: str(out / s.folder / f"verdict-{number:05d}.parquet") for s in filters}


def _tokenizer(context: Context) -> dict[str, str]:
    return {"tokenizer": str(context.place("tokenizer"))}


# ---- doing one task


def do(task: Task) -> Record:
    """Do one task of any stage, and write its record. (A folder's download has no tasks: see list_files.)"""
    if task.stage == "download":
        return fetching.do_download(task)
    if task.stage == "collect":
        return fetching.do_collect(task)
    work = {"ingest": _do_ingest, "pretokenise": _do_pretokenise}.get(task.stage, _do_filter)
    files = Files(Path(task.folder))
    by_source = work(task, files)
    return recorded(task, by_source, files.entries)


def _do_ingest(task: Task, files: Files) -> dict[str, Counts]:
    assert task.slice is not None
    source, params = task.params
    name, file = task.places["name"], task.slice.file
    records = read_records(Path(task.places["root"]) / file, task.slice, params.limits)
    if "packs" in task.places:
        packs = Packs(Path(task.places["packs"]), task.slice)
        pieces = ingest(packs.follow(records), name, file, source, packs, params)
    else:
        pieces = ingest(records, name, file, source, _image_files(task.images, params.max_image_bytes), params)
    counts, rejects = [], []

    def samples() -> Iterator[pa.Table]:
        for piece in pieces:
            counts.append(piece.counts)
            rejects.append(piece.rejects)
            yield piece.samples

    files.write(f"part-{task.number:05d}.parquet", SAMPLE, samples())
    files.write(f"rejected-{task.number:05d}.parquet", REJECT, [pa.concat_tables(rejects).combine_chunks()])
    total = sum(counts, Counts())
    if total.rows_in != task.rows:
        raise ValueError(f"{file}: {total.rows_in} rows read, {task.rows} listed; the file changed, run again")
    return {name: total}


def _do_filter(task: Task, files: Files) -> dict[str, Counts]:
    judge = FILTERS[task.stage]
    tables = [pq.read_table(part.path, columns=["sample_id", *judge.columns]) for part in task.parts]
    whole = pa.concat_tables(tables).combine_chunks()
    verdict = judge.verdicts(whole, task.params, _loaded(task) if judge.load else None)
    by_source: dict[str, Counts] = {}
    start = 0
    for k, part in enumerate(task.parts, task.number):
        rows = verdict.slice(start, part.rows)
        start += part.rows
        files.write(f"verdict-{k:05d}.parquet", rows.schema, [rows])
        by_source[part.source] = by_source.get(part.source, Counts()) + stage.counts(rows)
    return by_source


def _do_pretokenise(task: Task, files: Files) -> dict[str, Counts]:
    (part,) = task.parts
    chat = _chat(task.places["tokenizer"], task.params.tokens)
    verdicts = {name: pq.read_table(path) for name, path in task.verdicts.items()}
    indexes, judged, counts = [], [], []

    def shards() -> Iterator[pa.Table]:
        for piece in pretokenise(row_groups(part.path), verdicts, task.number, chat, task.params):
            indexes.append(piece.index)
            judged.append(piece.verdict)
            counts.append(piece.counts)
            yield piece.shard

    k = f"{task.number:05d}"
    files.write(f"shard-{k}.arrow", SHARD, shards())
    files.write(f"index-{k}.parquet", INDEX, [pa.concat_tables(indexes).combine_chunks()])
    files.write(f"verdict-{k}.parquet", VERDICT, [pa.concat_tables(judged).combine_chunks()])
    return {part.source: sum(counts, Counts())}


@functools.lru_cache(maxsize=4)
def _image_files(places: tuple[Place, ...], max_bytes: int) -> ImageFiles:
    return ImageFiles(places, max_bytes)


@functools.lru_cache(maxsize=2)
def _chat(folder: str, tokens: Any) -> ChatFormat:
    return ChatFormat.load(folder, tokens)


_models: dict[str, Any] = {}


def _loaded(task: Task) -> Any:
    """What a filter's `load` builds, once per worker process and step."""
    if task.identity not in _models:
        _models.clear()
        files = {name: Path(place) for name, place in task.places.items()}
        tables = [pq.read_table(path, columns=["sample_id", "image_info"]) for path in task.benchmarks]
        assets = Assets(files, pa.concat_tables(tables) if tables else None)
        load = FILTERS[task.stage].load
        assert load is not None
        _models[task.identity] = load(task.params, assets)
    return _models[task.identity]


# ---- the step as a whole


def list_files(step: Step, context: Context) -> tuple[Record, int]:
    """The download step of a folder: its list of files; and how many files no pattern names."""
    found = context.inventory.sources | context.inventory.benchmarks
    table, unnamed = download.listing(found[step.label], step.params)
    folder = context.out / step.folder
    files = Files(folder)
    files.write("files.parquet", table.schema, [table])
    counts = Counts(table.num_rows, table.num_rows)
    return Record(step.identity, 0, counts, {step.label: counts}, tuple(files.entries)), unnamed


def finish(step: Step, context: Context, records: Sequence[Record]) -> tuple[list[FileEntry], dict[str, Any]]:
    """Files and facts of a step beyond its parts: pretokenise's index, tokenizer and totals."""
    if step.stage == "download" and context.fetched(step.label):
        return [fetching.list_fetched(step, context, records)], {}
    folder = context.out / step.folder
    if step.stage == "ingest":
        return [], {"scores": _score_names(folder, records)}
    if step.stage != "pretokenise":
        return [], {}
    parts = [pq.read_table(folder / f"index-{record.number:05d}.parquet") for record in records]
    index = pa.concat_tables(parts).cast(INDEX) if parts else INDEX.empty_table()
    files = Files(folder)
    files.write("index.parquet", INDEX, [index.combine_chunks()])
    chat = ChatFormat.load(context.place("tokenizer"), step.params.tokens)
    chat.save(folder / "tokenizer")
    saved = sorted(path.name for path in (folder / "tokenizer").iterdir())
    return [*files.entries, *(describe(folder, f"tokenizer/{n}") for n in saved)], {
        "tiles": asdict(step.params.tiles),
        "tokens": asdict(step.params.tokens),
        "image_token_id": chat.image_token_id,
        "vocab_size": chat.vocab_size,
        "totals": totals(index),
    }


def _score_names(folder: Path, records: Sequence[Record]) -> list[str]:
    """Every name that some sample is rated under."""
    names: set[str] = set()
    for file in (file for record in records for file in record.files if file.name.startswith("part-")):
        scores = pq.read_table(folder / file.name, columns=["scores"])["scores"].combine_chunks()
        names |= set(scores.flatten().field("name").to_pylist())
    return sorted(names)
