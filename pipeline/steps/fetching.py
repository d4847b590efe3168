"""The tasks of the two stages that ask servers: files of the Hub or of a bucket, images that rows name by address.

A file is a task (small ones share one), and so is a slice of rows with addresses: what is done stays done. A file that
can't be fetched fails its step, after the others were tried, unless a few in a row say that it is no use; an image that
can't is a status, and ingest rejects its row.
"""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.filesize import decimal

from pipeline.graph.build import Step
from pipeline.net import fetch_many as collect
from pipeline.net.download_file import PARTIAL, Fetched, Want, fetch
from pipeline.net.http_client import Failed, Web
from pipeline.net.hub import Server
from pipeline.run.task import FETCHED, Asking, Context, Record, Task, recorded, records_of
from pipeline.storage import commit as storage
from schemas.manifest import Counts, FileEntry, describe
from stages import download
from stages.sources.records.slices import read, slices

_ROWS_PER_PACK = 1024
_FILES_PER_TASK = 32
_BYTES_PER_TASK = 16 << 20
_AT_A_TIME = 4  # files of one task: while one waits for the server, another is written


def download_tasks(step: Step, context: Context, base: Callable[..., Task]) -> list[Task]:
    """A large file is a task, small ones share one; the largest first: what comes last should not take longest.

    A folder has none.
    """
    if not context.fetched(step.label):
        return []
    remote, places = context.inventory.remotes[step.label], {"name": step.label}
    tasks = []
    for number, files in enumerate(shares(context.inventory.named(step.label, step.params))):
        wants = tuple((f"{FETCHED}/{f.file}", remote.want(f)) for f in files)
        rows = sum(f.size for f in files)
        tasks.append(base(number=number, rows=rows, places=places, server=remote.server, wants=wants))
    return sorted(tasks, key=lambda task: -task.rows)


def shares(found: Sequence[download.Found]) -> list[list[download.Found]]:
    """The files of each task, in the files' order: to flush and record many small files costs as much as for one."""
    shares: list[list[download.Found]] = []
    small: list[download.Found] = []  # the share that small files are put into until it is full
    for file in found:
        if file.size >= _BYTES_PER_TASK:
            shares.append([file])
            continue
        if not small or len(small) == _FILES_PER_TASK or sum(f.size for f in small) + file.size > _BYTES_PER_TASK:
            small = []
            shares.append(small)
        small.append(file)
    return shares


def no_room(folder: Path, todo: Sequence[Task]) -> str:
    """Before the first byte: why the files to be fetched don't fit; "" if they do."""
    # a file may be there whole, without the record that a killed run did not come to write
    there = [folder / (name + end) for task in todo for name, _ in task.wants for end in ("", PARTIAL)]
    needed = sum(task.rows for task in todo) - sum(path.stat().st_size for path in there if path.is_file())
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return ""
    less = "take less (hub.configs, hub.limit, files) or give another --out"
    return f"{decimal(needed)} to fetch, {decimal(free)} free in {folder}; {less}"


def collect_tasks(step: Step, context: Context, base: Callable[..., Task]) -> list[Task]:
    root, files = records_of(step, context, step.params)
    run = context.recipe.run
    asking = Asking(run.allow_hosts, collect.patience(run.patience, step.params.urls), run.crowd)
    found = [part for file in files for part in slices(root / file, file, _ROWS_PER_PACK)]
    places = {"root": str(root), "name": step.label}
    return [base(number=k, rows=p.rows, slice=p, places=places, asking=asking) for k, p in enumerate(found)]


def do_download(task: Task) -> Record:
    """Fetch files. A failure is counted and told, but not written down: the next run tries again."""
    name, files = task.places["name"], [file for file, _ in task.wants]
    outcomes, streak = _outcomes(task)
    failed = [(file, found) for file, found in zip(files, outcomes, strict=True) if isinstance(found, Failed)]
    reasons = Counter(found.reason for _, found in failed)
    counts = Counts(len(files), len(files) - len(failed), {}, dict(sorted(reasons.items())))
    if failed:
        file, first = failed[0]
        problem = f"{file.removeprefix(f'{FETCHED}/')}: {first.reason} ({first.detail})"
        return Record(task.identity, task.number, counts, {name: counts}, (), problem, streak)
    storage.flush(Path(task.folder) / file for file in files)
    whole = [(file, found) for file, found in zip(files, outcomes, strict=True) if isinstance(found, Fetched)]
    return recorded(task, {name: counts}, [FileEntry(file, found.size, found.sha256) for file, found in whole])


def _outcomes(task: Task) -> tuple[list[Fetched | Failed], tuple[str, ...]]:
    """What became of each file, and the streak at the end; after a long one the others are not asked for."""
    assert task.server is not None
    folder, web, token = Path(task.folder), _web(task.server), task.server.token
    streak: list[str] = []
    successes: list[str] = []

    def one(item: tuple[str, Want]) -> Fetched | Failed:
        if len(streak) >= download.STREAK:
            return Failed("not_asked", "files before it failed", True)
        before = len(successes)
        found = fetch(item[1], folder / item[0], web, token)
        if isinstance(found, Fetched):
            successes.append(item[0])
        if not isinstance(found, Failed) or found.reason not in download.STOPS:
            streak.clear()
        elif len(successes) == before:  # otherwise the server answered others meanwhile: it is this file's own trouble
            streak.append(found.reason)
        return found

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return list(pool.map(one, task.wants)), tuple(streak)


def do_collect(task: Task) -> Record:
    assert task.slice is not None and task.asking is not None
    folder, column, file = Path(task.folder), task.params.urls, task.slice.file
    rows = collect.rows(read(Path(task.places["root"]) / file, task.slice), file, column)
    web = Web(task.asking.allowed, task.asking.patience)
    reasons = collect.collect(rows, folder, task.number, column, web, task.asking.crowd)
    web.close()
    counts = Counts(len(rows), len(rows) - reasons.total(), {}, dict(sorted(reasons.items())))
    pack, status = f"images-{task.number:05d}.pack", f"status-{task.number:05d}.parquet"
    files = [describe(folder, pack), describe(folder, status, len(rows))]
    return recorded(task, {task.places["name"]: counts}, files)


@functools.lru_cache(maxsize=2)
def _web(server: Server) -> Web:
    return server.web()


def list_fetched(step: Step, context: Context, records: Sequence[Record]) -> FileEntry:
    """files.parquet of what was fetched, with the sha256 of every file, small ones included."""
    entries = [file for record in records for file in record.files]
    found = [download.Found(f.name.removeprefix(f"{FETCHED}/"), f.size, f.sha256) for f in entries]
    table, _ = download.listing(found, step.params)
    folder = context.out / step.folder
    storage.commit(folder / "files.parquet", functools.partial(_write, table))
    return describe(folder, "files.parquet", table.num_rows)


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")
