"""What the driver takes for a run of 33 million rows in 33,000 parts, without the data.

    python -m benchmarks.scale [--parts 33000] [--sources 1] [--rows 1000] [--folder F]
    python -m benchmarks.scale --files 200000

The first builds what such a run leaves, by the pipeline's own steps: files of a source are listed, hashed and sliced as
they are (one small file under many names), and for every task of ingest, of the filters and of pretokenise an executor
that only pretends leaves its record and the files that it names: holes of their sizes, and indexes of real rows.
On the way there it measures, each in a process of its own, what the driver does:

  plan      the command, of a recipe that is half done, and of a finished one
  resume    everything up to the first task of a step that is half done: listing, manifests, records, tasks
  close     all records are there: facts, the index over all shards, the manifest
  run       the command on a finished recipe

The second does the same for a folder of many small files and the step `hash`. Goal: each in at most 120 s and 2 GiB.
Time is given on the wall and of the CPU: on a busy machine only the second says much. Peak memory is VmHWM.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import cli
from pipeline.graph.build import build
from pipeline.graph.content import Content
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.graph.task import Job, Record, Task, do
from pipeline.recipe.load import load
from pipeline.run import runner
from pipeline.run.runner import Take
from pipeline.steps.compare import PairsJob, SketchJob
from pipeline.steps.dedupe import VerdictJob
from pipeline.steps.filters import JudgeJob
from pipeline.steps.hash_files import HashJob
from pipeline.steps.ingest import IngestJob
from pipeline.steps.part_rows import RowsJob
from pipeline.steps.shard_files import ShardJob
from pipeline.steps.table import STAGES
from pipeline.steps.verification import DecideJob
from pipeline.storage import exchange, layout
from pipeline.storage.part_writer import write_parquet
from schemas.manifest import Counts, FileEntry, describe
from schemas.shard import COUNTS, INDEX
from stages.duplicates.near_misses import MISSES
from stages.duplicates.pairs import MEMBERS, PAIRS
from stages.pretokenise import totals
from stages.stage import GROUP_ROWS

_INDEXES = 64  # files of an index that differ
_PARTS = 4  # of a shard: so many of their batches fill it
_COMPARED = {"pairs": PAIRS, "members": MEMBERS, "misses": MISSES}  # what the last phase of compare leaves
_PART, _SHARD, _SMALL = 150_000_000, 512 * 1024 * 1024, 20_000


class Stopped(Exception):
    """The run ends here, as if it were killed."""


# ---- what a run leaves


@dataclass
class Pretends:
    """An executor that leaves what tasks would leave; dies before the record of its last task is told.

    `until`: how many tasks it does of which kind; none: all.
    """

    indexes: Path
    until: tuple[type[Job], int] | None = None

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        left = self.until[1] if self.until else -1
        while (task := take()) is not None:
            record = self._done(task)
            left -= self.until is not None and isinstance(task.job, self.until[0])
            if not left:
                raise Stopped
            yield task, record

    def _done(self, task: Task) -> Record:
        job, number, folder = task.job, task.number, Path(task.folder)
        facts: dict[str, Any] = {}
        if isinstance(job, IngestJob):
            files = [_hole(folder, layout.part(number), _PART, job.slice.rows - 1)]
            files.append(_hole(folder, layout.rejected(number), _SMALL, 1))
            by_source = {job.name: Counts(job.slice.rows, job.slice.rows - 1, {}, {"image_missing": 1})}
            facts = {"scores": [], "turn_scores": [], "unread": {}}
        elif isinstance(job, SketchJob):
            files = [
                _hole(folder, exchange.file_name(kind, number), _SMALL, job.amount) for kind in ("sketches", "bands")
            ]
            by_source = {}
            for part in job.samples:
                by_source[part.source] = by_source.get(part.source, Counts()) + Counts(part.rows, part.rows)
            facts = {"texts": job.amount}
        elif isinstance(job, PairsJob):
            kinds = ("pairs", "members", "misses", "candidates")
            files = [_hole(folder, exchange.file_name(kind, number), _SMALL, 0) for kind in kinds]
            by_source = {job.sources[0]: Counts(job.amount, job.amount)}
        elif isinstance(job, DecideJob):
            for name, schema in _COMPARED.items():
                write_parquet([], schema, folder / f"{name}-{number:05d}.parquet")
            files = [describe(folder, f"{name}-{number:05d}.parquet", 0) for name in _COMPARED]
            by_source = {}
            for source, rows in job.rows:
                by_source[source] = by_source.get(source, Counts()) + Counts(rows, rows)
        elif isinstance(job, JudgeJob | VerdictJob):
            files = [_hole(folder, layout.verdict(number), _SMALL, job.part.rows)]
            by_source = {job.part.source: Counts(job.part.rows, job.part.rows)}
            facts = {"turns": {}}
        elif isinstance(job, RowsJob):
            kept = job.part.rows - _LONG
            files = [_hole(folder, layout.rows(number), kept * 2000, kept)]
            files.append(_hole(folder, layout.verdict(number), _SMALL, job.part.rows))
            by_source = {job.part.source: _ledger(job.part.rows)}
            facts = {"batches": _batches(kept), **_TOKENS}
        elif isinstance(job, ShardJob):
            index = _index(self.indexes, number % _INDEXES, job.amount)
            os.link(index, folder / layout.index_part(number))
            known, facts = _known(index)
            files = [_hole(folder, layout.shard(number), _SHARD, known.rows)]
            files.append(_hole(folder, layout.shard_map(number), _SMALL))
            files.append(FileEntry(layout.index_part(number), known.size, known.sha256, known.rows))
            by_source = {}
            for part, source in job.begun:
                rows = -(-job.amount // len(job.begun)) + _LONG
                files.append(_hole(folder, layout.verdict(part), _SMALL, rows))
                by_source[source] = by_source.get(source, Counts()) + _ledger(rows)
        else:
            return do(task)
        total = sum(by_source.values(), Counts())
        record = Record(task.identity, number, total, by_source, tuple(files), facts)
        (folder / layout.record(number)).write_text(record.to_json(), encoding="utf-8")
        return record


def _hole(folder: Path, name: str, size: int, rows: int | None = None) -> FileEntry:
    """A file that has a size and no bytes."""
    with (folder / name).open("wb") as stream:
        stream.truncate(size)
    return FileEntry(name, size, hashlib.sha256(name.encode()).hexdigest(), rows)


_LONG = 4  # samples of a part that are too long
_TOKENS = {
    "tokens": {"image": "<image>", "start": None, "end": None, "ids": {"<image>": 3}},
    "image_token_id": 3,
    "vocab_size": 32_000,
}


def _ledger(rows: int) -> Counts:
    return Counts(rows, rows - _LONG, {"pretokenise.too_long": _LONG})


def _batches(rows: int) -> list[tuple[int, int]]:
    """(rows, bytes) of the batches of a part, _PARTS of which fill a shard."""
    counts = [min(GROUP_ROWS, rows - first) for first in range(0, rows, GROUP_ROWS)]
    return [(count, _SHARD // _PARTS // len(counts)) for count in counts]


@functools.cache
def _known(path: Path) -> tuple[FileEntry, dict[str, Any]]:
    """An index of one shard: its entry, and the facts of a record that names it."""
    table = pq.read_table(path)
    known = describe(path.parent, path.name, table.num_rows)
    return known, {"rows": table.num_rows, "totals": totals(table), **_TOKENS}


@functools.cache
def _index(folder: Path, number: int, rows: int) -> Path:
    """An index of so many rows; those of other numbers differ."""
    path = folder / f"index-{rows}-{number}.parquet"
    if not path.is_file():
        _write_index(path, number, rows)
    return path


def _write_index(path: Path, number: int, rows: int) -> None:
    row, chance = range(rows), random.Random(number)
    columns = {
        "sample_id": [f"s000/train-{number:05d}-of-33000.parquet#{n}" for n in row],
        "shard": [number] * rows,
        "row": row,
        "source": ["s000"] * rows,
        "subset": ["s000"] * rows,
        "language": [chance.choice(("en", "ja", None)) for _ in row],
        **{name: [chance.randrange(8000) for _ in row] for name in COUNTS},
    }
    write_parquet([pa.table(columns, INDEX)], INDEX, path)


def prepared(top: Path, parts: int, sources: int, rows: int) -> Path:
    """The files of the sources and a recipe on them."""
    names = [f"s{number:03d}" for number in range(sources)]
    for name in names:
        folder = top / "raw" / name
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"text": [f"row {n}" for n in range(rows)]}), top / "one.parquet")
        here = len(range(int(name[1:]), parts, sources))
        for number in range(here):
            os.link(top / "one.parquet", folder / f"train-{number:05d}-of-{here:05d}.parquet")
        (top / "one.parquet").unlink()
    data: dict[str, Any] = {name: {} for name in ("dedupe", "language", "quality", "pretokenise")}
    data["language"] = {"keep": ["en", "ja"]}
    data["sources"] = {name: {"format": "text", "files": ["*.parquet"]} for name in names}
    return _recipe(top, data, {name: str(top / "raw" / name) for name in names})


def small_files(top: Path, files: int) -> Path:
    """A folder of small images, a thousand in each folder of it, one file of records, and a recipe on it."""
    for number in range(files):
        folder = top / "raw" / "images" / f"{number // 1000:04d}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        with (folder / f"{number:07d}.jpg").open("wb") as stream:
            stream.truncate(200)
    (top / "raw" / "records.jsonl").write_text("{}\n", encoding="utf-8")
    source = {"format": "conversations", "files": ["*.jsonl"], "images": "images"}
    return _recipe(top, {"sources": {"small": source}, "pretokenise": {}}, {"small": str(top / "raw")})


def _recipe(top: Path, data: dict[str, Any], places: dict[str, str]) -> Path:
    if not (top / "tokenizer").is_dir():
        from pipeline.quickstart import tokenizer  # with transformers, whose memory is not the driver's

        tokenizer.learn([], top / "tokenizer")
    run = {"out": str(top / "out"), "locations": {**places, "tokenizer": str(top / "tokenizer")}}
    path = top / "recipe.yaml"
    path.write_text(json.dumps({"data": data, "run": run}), encoding="utf-8")
    return path


# ---- what is measured, in a process of its own


@dataclass
class Counting:
    """An executor that takes every task there is, and does none."""

    found: int = 0

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        self.found = sum(1 for _ in iter(take, None))
        return iter(())


def opened(recipe: Path) -> tuple[Context, list[Step]]:
    loaded = load(recipe)
    context = Context(loaded, Content(loaded))
    return context, build(context, STAGES)


def resume(stage: str, recipe: Path) -> int:
    """How many tasks are handed out before one is done, of the steps up to a stage's."""
    context, steps = opened(recipe)
    executor = Counting()
    runner.run([step for step in steps if step.stage.number <= STAGES[stage].number], context, executor)
    return executor.found


def command(name: str, recipe: Path) -> int:
    code = cli.main([name, str(recipe)])
    if code:
        raise SystemExit(code)
    return 0


CASES: dict[str, Callable[[Path], int]] = {
    **{name: functools.partial(command, name) for name in ("plan", "run")},
    **{name: functools.partial(resume, name) for name in ("hash", "ingest", "language", "pretokenise")},
    **{name: functools.partial(resume, "pretokenise") for name in ("rows", "shards")},
}


class Measured(NamedTuple):
    """What a process took: seconds on the wall, of the CPU, MiB at its peak; and the tasks that it found."""

    wall: float
    cpu: float
    peak: float
    tasks: int


def measure(case: str, recipe: Path) -> Measured:
    """One case in a fresh process."""
    words = [sys.executable, "-m", "benchmarks.scale", "--measure", case, "--recipe", str(recipe)]
    started = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    wall = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{case}: {done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Measured(wall, found["cpu"], found["peak"], found["tasks"])


def measured(case: str, recipe: Path) -> None:
    """Do one case in this process, and print what it took."""
    tasks = CASES[case](recipe)
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    print(json.dumps({"cpu": time.process_time(), "peak": peak, "tasks": tasks}), flush=True)


# ---- the two tables

Lines = Iterator[tuple[str, Measured]]


def go_on(recipe: Path, kind: type[Job], tasks: int) -> None:
    """Run until so many tasks of a kind are done; the last one dies once its record is there."""
    context, steps = opened(recipe)
    executor = Pretends(recipe.parent, (kind, tasks))
    with contextlib.suppress(Stopped), contextlib.redirect_stdout(sys.stderr):
        runner.run(steps, context, executor)


def run_of_parts(top: Path, parts: int, sources: int, rows: int) -> Lines:
    """Every case on the way from nothing to a finished run."""
    recipe = prepared(top, parts, sources, rows)
    for name, kind in (("ingest", IngestJob), ("language", JudgeJob), ("rows", RowsJob), ("shards", ShardJob)):
        tasks = -(-parts // _PARTS) if kind is ShardJob else parts
        half = tasks // 2
        go_on(recipe, kind, half)
        if kind is IngestJob:
            yield "`plan`, half done", measure("plan", recipe)
        yield f"resume {name}", measure(name, recipe)
        go_on(recipe, kind, tasks - half)
        yield f"close {name}", measure(name, recipe)
        if kind is JudgeJob:
            go_on(recipe, kind, parts)  # quality
    yield "`plan`, finished", measure("plan", recipe)
    yield "`run`, finished", measure("run", recipe)


def folder_of_files(top: Path, files: int) -> Lines:
    """Every case of the step `hash` of one folder, all of whose files are small."""
    recipe = small_files(top, files)
    yield "`plan`, nothing hashed", measure("plan", recipe)
    fresh = measure("hash", recipe)
    yield "begin hash", fresh
    go_on(recipe, HashJob, fresh.tasks // 2)
    yield "resume hash", measure("hash", recipe)
    go_on(recipe, HashJob, fresh.tasks - fresh.tasks // 2)
    yield "close hash", measure("hash", recipe)
    yield "`plan`, all hashed", measure("plan", recipe)
    next((top / "raw").rglob("*.jpg")).write_bytes(b"another")
    yield "begin hash, one file changed", measure("hash", recipe)


def table(lines: Lines) -> None:
    print("| what | wall | CPU | peak | tasks |\n|---|---|---|---|---|", flush=True)
    for name, found in lines:
        line = f"| {name} | {found.wall:.1f} s | {found.cpu:.1f} s | {found.peak:,.0f} MiB | {found.tasks:,} |"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=33_000)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--rows", type=int, default=1000, help="of a part")
    parser.add_argument("--files", type=int, help="instead of a run: a folder of so many small files")
    parser.add_argument("--folder", type=Path, help="where to build it, and leave it")
    parser.add_argument("--measure", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--recipe", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        return measured(given.measure, given.recipe)
    top = given.folder or Path(tempfile.mkdtemp(prefix="bench-scale-"))
    try:
        if given.files:
            table(folder_of_files(top, given.files))
        else:
            table(run_of_parts(top, given.parts, given.sources, given.rows))
    finally:
        if not given.folder:
            shutil.rmtree(top)


if __name__ == "__main__":
    main()
