"""The tasks of the two stages that ask servers: files of a dataset on the Hub, images that rows name by address.

A file is a task, and so is a slice of rows with addresses: what is done stays done. A file that can't be fetched fails
its step, after the others were tried; an image that can't is a status, and ingest rejects its row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import collect, hub, storage
from pipeline.fetch import Fetched, fetch
from pipeline.graph import Step
from pipeline.hub import Server
from pipeline.task import FETCHED, Asking, Context, Record, Task, recorded, records_of
from pipeline.web import Web
from schemas.manifest import Counts, FileEntry, describe
from stages import download
from stages.sources.records import read, slices

_ROWS_PER_PACK = 1024


def download_tasks(step: Step, context: Context, base: Callable[..., Task]) -> list[Task]:
    """One per file, the largest first: the last file to come should not be the longest."""
    inventory, source, server = context.inventory, step.params, context.inventory.server
    if source.hub is None or server is None:
        return []
    found = (inventory.sources | inventory.benchmarks)[step.label]
    commit, places = inventory.commits[step.label], {"name": step.label}
    named = [f for f in sorted(found) if download.role(f.file, source)]
    tasks = [
        base(number=k, rows=f.size, places=places, file=f"{FETCHED}/{f.file}", server=server,
             want=hub.want(server, source.hub.dataset, commit, f))
        for k, f in enumerate(named)
    ]  # fmt: skip
    return sorted(tasks, key=lambda task: -task.rows)


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
    """files.parquet of a download from the Hub, with the sha256 of every file, small ones included."""
    entries = [file for record in records for file in record.files]
    found = [download.Found(f.name.removeprefix(f"{FETCHED}/"), f.size, f.sha256) for f in entries]
    table, _ = download.listing(found, step.params)
    folder = context.out / step.folder
    storage.commit(folder / "files.parquet", functools.partial(_write, table))
    return describe(folder, "files.parquet", table.num_rows)


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")
