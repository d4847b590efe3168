"""The tasks of the two stages that ask servers: files of the Hub or of a bucket, images that rows name by address.

A file is a task, and so is a slice of rows with addresses: what is done stays done. A file that can't be fetched fails
its step, after the others were tried; an image that can't is a status, and ingest rejects its row.
"""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.filesize import decimal

from pipeline import collect, storage
from pipeline.fetch import PARTIAL, Fetched, fetch
from pipeline.graph import Step
from pipeline.hub import Server
from pipeline.task import FETCHED, Asking, Context, Record, Task, recorded, records_of
from pipeline.web import Web
from schemas.manifest import Counts, FileEntry, describe
from stages import download
from stages.sources.records import read, slices

_ROWS_PER_PACK = 1024


def download_tasks(step: Step, context: Context, base: Callable[..., Task]) -> list[Task]:
    """One per file, the largest first: the last file to come should not be the longest. A folder has none."""
    if not context.fetched(step.label):
        return []
    remote, places = context.inventory.remotes[step.label], {"name": step.label}
    named = context.inventory.named(step.label, step.params)
    tasks = [
        base(
            number=k, rows=f.size, places=places, file=f"{FETCHED}/{f.file}", server=remote.server, want=remote.want(f)
        )
        for k, f in enumerate(named)
    ]
    return sorted(tasks, key=lambda task: -task.rows)


def no_room(folder: Path, todo: Sequence[Task]) -> str:
    """Before the first byte: why the files to be fetched don't fit; "" if they do."""
    parts = [folder / (task.file + PARTIAL) for task in todo]
    needed = sum(task.rows for task in todo) - sum(part.stat().st_size for part in parts if part.is_file())
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
    """Fetch one file. A failure is counted and told, but not written down: the next run tries again."""
    assert task.want is not None and task.server is not None
    done = fetch(task.want, Path(task.folder) / task.file, _web(task.server), task.server.token)
    name = task.places["name"]
    if isinstance(done, Fetched):
        return recorded(task, {name: Counts(1, 1)}, [FileEntry(task.file, done.size, done.sha256)])
    counts = Counts(1, 0, {}, {done.reason: 1})
    file = task.file.removeprefix(f"{FETCHED}/")
    return Record(task.identity, task.number, counts, {name: counts}, (), f"{file}: {done.reason} ({done.detail})")


def do_collect(task: Task) -> Record:
    assert task.slice is not None and task.asking is not None
    folder, column, file = Path(task.folder), task.params.urls, task.slice.file
    rows = collect.rows(read(Path(task.places["root"]) / file, task.slice), file, column)
    web = Web(task.asking.allowed, task.asking.patience)
    table = collect.collect(rows, folder, task.number, column, web, task.asking.crowd)
    web.close()
    status = f"status-{task.number:05d}.parquet"
    storage.commit(folder / status, functools.partial(_write, table))
    reasons = Counter(reason for reason in table["reason"].to_pylist() if reason is not None)
    counts = Counts(len(rows), len(rows) - reasons.total(), {}, dict(sorted(reasons.items())))
    files = [describe(folder, f"images-{task.number:05d}.pack"), describe(folder, status, len(rows))]
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
