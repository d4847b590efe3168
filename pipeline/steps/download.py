"""The step `download`: the files of a source that lies on a server (the Hub, a bucket), fetched and listed.

A file to be fetched is a task, and small ones share one: what is done stays done. A file that can't be fetched fails
the step, after the others were tried, unless a few in a row say that it is no use.
"""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from pipeline.graph.context import Context
from pipeline.graph.proof import same_facts, same_rows
from pipeline.graph.stage import Ending, Facts, Phase, Stage, Step, anything
from pipeline.graph.task import Done, Job, Record
from pipeline.net.download_file import PARTIAL, Fetched, Want, fetch
from pipeline.net.http_client import Failed, Web
from pipeline.net.hub import Server
from pipeline.storage import layout
from pipeline.storage.commit import flush
from pipeline.storage.part_reader import read
from pipeline.storage.part_writer import PartWriter
from schemas.identity import fingerprint
from schemas.manifest import Counts, FileEntry, Manifest
from stages import download

_FILES_PER_TASK = 32
_BYTES_PER_TASK = 16 << 20
_AT_A_TIME = 4  # files of one task: while one waits for the server, another is written


@dataclass(frozen=True, kw_only=True)
class FetchJob(Job):
    """Files to be fetched, named relative to the step's folder. The token travels here and not through the workers'
    environment, which Ray writes into its logs."""

    source: str
    wants: tuple[tuple[str, Want], ...]
    server: Server


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data, content = context.recipe.data, context.content
    for name, source in {**data.sources, **data.benchmarks}.items():
        if context.fetched(name):
            patterns = {"files": source.files, "images": source.images}
            # Not the dataset's name nor what was selected of it: the commit and the files say both
            commit = {"commit": content.commits[name]} if source.hub else {}
            named = [list(found) for found in content.named(name)]
            yield Step(stage, name, {**patterns, **commit, "content": fingerprint(named)}, source)


def _split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    return fetching(step.label, context)


def fetching(name: str, context: Context) -> list[Job]:
    """The files of a source as jobs: a large file is one, small ones share one."""
    remote = context.content.remotes[name]
    jobs: list[Job] = []
    for files in shares(context.content.named(name)):
        wants = tuple((f"{layout.FETCHED}/{f.file}", remote.want(f)) for f in files)
        amount = sum(f.size for f in files)
        jobs.append(FetchJob(amount=amount, parts=len(wants), source=name, wants=wants, server=remote.server))
    return jobs


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


def _do(job: FetchJob, writer: PartWriter) -> Done:
    """Fetch files. A failure is counted and told, but not written down: the next run tries again."""
    files = [file for file, _ in job.wants]
    outcomes, streak = _outcomes(job, writer.folder)
    failed = [(file, found) for file, found in zip(files, outcomes, strict=True) if isinstance(found, Failed)]
    reasons = Counter(found.reason for _, found in failed)
    counts = {job.source: Counts(len(files), len(files) - len(failed), {}, dict(sorted(reasons.items())))}
    if failed:
        file, first = failed[0]
        problem = f"{file.removeprefix(f'{layout.FETCHED}/')}: {first.reason} ({first.detail})"
        return Done(counts, problem=problem, streak=streak)
    flush(writer.folder / file for file in files)
    whole = [(file, found) for file, found in zip(files, outcomes, strict=True) if isinstance(found, Fetched)]
    writer.entries += [FileEntry(file, found.size, found.sha256) for file, found in whole]
    return Done(counts)


def _outcomes(job: FetchJob, folder: Path) -> tuple[list[Fetched | Failed], tuple[str, ...]]:
    """What became of each file, and the streak at the end; after a long one the others are not asked for."""
    web, token = _web(job.server), job.server.token
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
        return list(pool.map(one, job.wants)), tuple(streak)


@functools.lru_cache(maxsize=2)
def _web(server: Server) -> Web:
    return server.web()


def _keep(job: FetchJob, record: Record) -> bool:
    """How files are shared out among the tasks is no part of the identity."""
    return [file.name for file in record.files] == [name for name, _ in job.wants]


def _no_room(folder: Path, jobs: Sequence[FetchJob]) -> str:
    """Before the first byte: why the files to be fetched don't fit; "" if they do."""
    # a file may be there whole, without the record that a killed run did not come to write
    there = [folder / (name + end) for job in jobs for name, _ in job.wants for end in ("", PARTIAL)]
    needed = sum(job.amount for job in jobs) - sum(map(_size, there))
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return ""
    less = "take less (hub.configs, hub.limit, files) or give another --out"
    return f"{decimal(needed)} to fetch, {decimal(free)} free in {folder}; {less}"


def _live(folder: Path, jobs: Sequence[FetchJob]) -> int:
    """Bytes of files half fetched: they are among the first jobs that are not done, which begin in order."""
    return sum(_size(folder / (name + PARTIAL)) for job in jobs[:64] for name, _ in job.wants)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # not begun, or just renamed


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    """files.parquet, with the sha256 of every file, small ones included."""
    step, prefix = ending.step, f"{layout.FETCHED}/"
    entries = [file for record in ending.records for file in record.files]
    found = [download.Found(f.name.removeprefix(prefix), f.size, f.sha256) for f in entries]
    table = download.listing(found, step.params)
    writer.write(layout.FILES, table.schema, [table])
    return Facts(circumstances=ending.context.content.remotes[step.label].origin)


def _verify(folder: Path, manifest: Manifest) -> None:
    """The list by role is that of the files that lie here."""
    prefix = f"{layout.FETCHED}/"
    here = [(f.name.removeprefix(prefix), f.size, f.sha256) for f in manifest.files if f.name.startswith(prefix)]
    listed = read(folder / layout.FILES, schema=download.FILES).to_pylist()
    same_rows(folder, "files", [(f["file"], f["size"], f["sha256"]) for f in listed], sorted(here))
    same_facts(folder, manifest, {})


def _much(step: Step, context: Context) -> str:
    return much(step.label, context)


def much(name: str, context: Context) -> str:
    """How much a download is, before it begins."""
    sizes = [file.size for file in context.content.named(name)]
    return f"{len(sizes):,} files, {decimal(sum(sizes))} to fetch"


def phase(split: Callable[[Step, Context, Sequence[Record]], list[Job]]) -> Phase:
    """The one phase of a step that fetches: what is done stays, and a server that is away is not asked for all."""
    return Phase(
        split,
        _do,
        word="files",
        unit="bytes",
        failed="could not be fetched",
        keep=_keep,
        before=_no_room,
        live=_live,
        stops=download.STOPS,
    )


DOWNLOAD = Stage(
    name="download",
    number=1,
    version=download.VERSION,
    makes="files",
    reasons=download.REASONS,
    steps=_steps,
    phases=(phase(_split),),
    absent="no source on the Hub or in a bucket",
    finish=_finish,
    much=_much,
    verify=_verify,
    check=anything,
)
