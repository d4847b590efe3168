"""Do one step: list its tasks, leave out what an earlier run finished, do the rest, check the ledger, write it down.

Order on disk: a part's files, then its record, then (all parts done) the step's files, then `run.json`, then
`manifest.json`. Killed anywhere, the next run finds whole files with records, or none. Who executes the tasks is given;
results may come back in any order, because records are read again in the order of their numbers.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline.graph.build import Step
from pipeline.net.download_file import PARTIAL
from pipeline.run.progress import Progress
from pipeline.run.task import Context, Record, Task, load_record
from pipeline.steps import fetching, tasks
from pipeline.storage import commit as storage
from schemas.manifest import MANIFEST, Counts, Manifest, ManifestError, read
from schemas.strict import RecipeError
from stages.catalogue import STAGES
from stages.download import STOPS, STREAK
from stages.fetch_images import HEALING, REFUSED


class StepError(Exception):
    """A step can't go on, through no fault of this program: one line for the person who runs it."""


class MissingInput(StepError):
    """A step's input is not there yet."""


class Executor(Protocol):
    """Runs tasks, taking each only when it can begin: what is done may decide that the others are no use.

    Yields each finished record, and None at least about once a second so that progress can be shown.
    """

    def run(self, function: Callable[[Task], Record], todo: Iterable[Task]) -> Iterator[Record | None]: ...


class Serial:
    """Executes in this process, one after another: for tests, and the measure that Ray is compared with."""

    def run(self, function: Callable[[Task], Record], todo: Iterable[Task]) -> Iterator[Record | None]:
        for task in todo:
            yield function(task)


def finished(step: Step, out: Path) -> Manifest | None:
    """The manifest of a step that is done, or None. A broken manifest is an error, never a reason to start over."""
    if not (out / step.folder / MANIFEST).is_file():
        return None
    manifest = read(out / step.folder)
    if manifest.identity != step.identity:
        raise ManifestError(f"{out / step.folder}: holds another step ({manifest.identity[:16]}); move it away")
    # A file that is gone or cut is made again; whether the bytes of the others are right is for `verify` to read.
    whole = all(
        p.is_file() and p.stat().st_size == f.size for f in manifest.files for p in [out / step.folder / f.name]
    )
    return manifest if whole else None


def due(step: Step, context: Context, again: bool = False) -> bool:
    """Whether a step is to be run: it isn't finished, or it fetched by address and some failures may have healed.

    Those are asked again by every run until one brings nothing new, else dead addresses would cost every later run the
    same waiting, and a picture that comes back would change the content under it. What was refused here is asked again
    when other hosts are allowed. `again`: ask even then.
    """
    manifest = finished(step, context.out)
    if manifest is None or step.stage != "collect":
        return manifest is None
    run = _circumstances_of(context.out / step.folder)
    refused = bool(REFUSED & set(manifest.counts.rejected))
    allowed = run.get("allow_hosts") != sorted(context.recipe.run.allow_hosts)
    return (may_heal(step, manifest) > 0 and (again or run.get("news", True))) or (refused and (again or allowed))


def may_heal(step: Step, manifest: Manifest) -> int:
    """How many rows failed in a way that another try may mend."""
    rejected = manifest.counts.rejected.items() if step.stage == "collect" else ()
    return sum(count for reason, count in rejected if reason in HEALING)


def _circumstances_of(folder: Path) -> dict[str, Any]:
    """run.json; nothing where it is lost or broken, for no result depends on it."""
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def run_step(step: Step, context: Context, executor: Executor) -> Manifest:
    """Do a step, or what is left of it, and return its manifest. Raises MissingInput if an input is not finished."""
    _require_inputs(step, context.out)
    _require_scores(step, context.out)
    folder = context.out / step.folder
    folder.mkdir(parents=True, exist_ok=True)
    storage.clean(folder)
    before = finished(step, context.out)
    (folder / MANIFEST).unlink(missing_ok=True)  # a finished step that is due again is not done while its parts change
    started, extra = time.time(), {}
    if step.stage == "download" and not context.fetched(step.label):
        record, unnamed = tasks.list_files(step, context)
        records, extra = [record], {"files_not_named": unnamed}
        _close(step, records, f"; {unnamed:,} files not named" if unnamed else "")
    else:
        records = _parts(step, context, executor)
        extra = _origin(step, context)
    entries, facts = tasks.finish(step, context, records)
    manifest = _manifest(step, records, entries, facts)
    _check_flow(step, manifest, context.out)
    _check_shares(step, manifest.counts, context.recipe.run.stop_if)
    run = {**_circumstances(started), **extra, **_news(step, context, before, manifest)}
    storage.commit_text(folder / "run.json", json.dumps(run, indent=2, sort_keys=True) + "\n")
    storage.commit_text(folder / MANIFEST, manifest.to_json())
    return manifest


def _require_inputs(step: Step, out: Path) -> None:
    for needed in (*step.inputs, *step.benchmarks):
        if finished(needed, out) is None:
            raise MissingInput(
                f"{step.name}: its input {needed.folder} is not finished; "
                f"run `python -m pipeline {needed.stage} RECIPE` first"
            )


def _require_scores(step: Step, out: Path) -> None:
    """A minimum for a score that no sample has would filter nothing, silently."""
    if step.stage != "quality":
        return
    known = {name for s in step.inputs for name in read(out / s.folder).facts["scores"]}
    for name in step.params.min_scores:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise RecipeError(f"data.quality.min_scores.{name}: no sample is rated under that name; there are: {names}")


def _parts(step: Step, context: Context, executor: Executor) -> list[Record]:
    todo = tasks.split(step, context)
    folder = context.out / step.folder
    old = {t.number: r for t in todo if (r := load_record(t))}
    if step.stage == "collect":
        old = {
            number: record for number, record in old.items() if not (HEALING | REFUSED) & set(record.counts.rejected)
        }
    missing = [task for task in todo if task.number not in old]
    if step.stage == "download" and (problem := fetching.no_room(folder, missing)):
        raise StepError(f"{step.name}: {problem}")
    progress, given = _progress(step, todo, old, folder), {task.number: task for task in todo}
    for number, record in old.items():
        progress.add(record.counts, given[number].rows, resumed=True)
    use = _Use()
    for done in executor.run(tasks.do, use.of(missing)):
        if done is not None:
            old[done.number] = done
            progress.add(done.counts, given[done.number].rows, parts=_amount(given[done.number]))
            use.add(done)
        progress.tick()
    progress.close()
    records = [old[number] for number in sorted(old)]
    _refuse_failed(step, records, sum(map(_amount, todo)), use.none)
    return records


class _Use:
    """Whether it is of any use to begin further tasks: not after a few files in a row that tell of a dead server."""

    def __init__(self) -> None:
        self.none = ""  # or the reason why it is of none
        self._streak: tuple[str, ...] = ()

    def of(self, todo: Iterable[Task]) -> Iterator[Task]:
        """The tasks that are to be begun, asked for one at a time."""
        for task in todo:
            if self.none:
                return
            yield task

    def add(self, done: Record) -> None:
        """A task has ended; an outcome of another kind begins the count anew."""
        self._streak = (self._streak if len(done.streak) == done.counts.rows_in else ()) + done.streak
        if len(self._streak) >= STREAK:
            self.none = self._streak[-1]


def _amount(task: Task) -> int:
    """How many parts, or files of a download, a task is for the person who waits."""
    return len(task.wants) or 1


def _progress(step: Step, todo: Sequence[Task], old: dict[int, Record], folder: Path) -> Progress:
    total, parts = sum(task.rows for task in todo), sum(map(_amount, todo))
    finished = sum(_amount(task) for task in todo if task.number in old)
    if step.stage != "download":
        return Progress(step.name, parts, total, finished)
    # tasks start in order, so what is half fetched is among the first that are not done
    waiting = [(task.number, folder / (name + PARTIAL)) for task in todo for name, _ in task.wants]

    def live() -> int:
        return sum(_size(path) for path in [path for number, path in waiting if number not in old][:64])

    return Progress(step.name, parts, total, finished, unit="bytes", live=live)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # not begun, or just renamed


def _refuse_failed(step: Step, records: Sequence[Record], files: int, stopped: str) -> None:
    """After all others were tried, or it was no use to: one line for the files that are not there."""
    problems = [record.problem for record in records if record.problem]
    if not problems:
        return
    if stopped:
        left = files - sum(record.counts.kept for record in records)
        raise StepError(
            f"{step.name}: {STOPS[stopped]}; {left:,} of {files:,} files left, run again to go on: {problems[-1]}"
        )
    failed = sum(sum(record.counts.rejected.values()) for record in records)
    more = f"; and {failed - 1:,} more" if failed > 1 else ""
    raise StepError(
        f"{step.name}: {failed:,} of {files:,} files could not be fetched: {problems[0]}{more}; "
        "the others stay, run again to go on"
    )


def _origin(step: Step, context: Context) -> dict[str, Any]:
    """Where fetched files came from."""
    return context.inventory.remotes[step.label].origin if step.stage == "download" else {}


def _news(step: Step, context: Context, before: Manifest | None, manifest: Manifest) -> dict[str, Any]:
    """Whether asking for images by address changed anything, and which hosts were allowed."""
    if step.stage != "collect":
        return {}
    news = before is None or before.files != manifest.files
    return {"news": news, "allow_hosts": sorted(context.recipe.run.allow_hosts)}


def _close(step: Step, records: Sequence[Record], note: str) -> None:
    counts = records[0].counts
    progress = Progress(step.name, 1, counts.rows_in)
    progress.add(counts, counts.rows_in)
    progress.close(f"{note} (files)")


def _manifest(step: Step, records: Sequence[Record], entries: list[Any], facts: dict[str, Any]) -> Manifest:
    by_source: dict[str, Counts] = {}
    for record in records:
        for source, counts in record.by_source.items():
            by_source[source] = by_source.get(source, Counts()) + counts
    return Manifest(
        stage=step.stage,
        version=STAGES[step.stage].version,
        identity=step.identity,
        parameters=json.loads(json.dumps(step.parameters)),
        inputs={needed.folder: needed.identity for needed in (*step.inputs, *step.benchmarks)},
        counts=sum(by_source.values(), Counts()),
        by_source=by_source,
        files=tuple([f for record in records for f in record.files] + entries),
        facts=facts,
    )


def _check_flow(step: Step, manifest: Manifest, out: Path) -> None:
    """Rows in must be what the inputs kept: the ledger across steps, not only within one."""
    ingested = sum((read(out / s.folder).counts for s in step.inputs if s.stage == "ingest"), Counts())
    if step.stage not in ("download", "collect", "ingest") and manifest.counts.rows_in != ingested.kept:
        raise ManifestError(f"{step.name}: {manifest.counts.rows_in:,} rows in, but its inputs kept {ingested.kept:,}")
    if step.stage == "pretokenise" and manifest.counts.kept == 0:
        rejected = {f"ingest.{reason}": n for reason, n in ingested.rejected.items()}
        left_out = {**rejected, **manifest.counts.dropped}
        why = ", ".join(f"{reason} {n:,}" for reason, n in left_out.items()) or "the sources are empty"
        raise StepError(
            f"pretokenise: no sample is left of {ingested.rows_in:,} rows ({why}); nothing to train on; "
            "`python -m pipeline rejects RECIPE` and `show RECIPE SAMPLE` tell more"
        )


def _check_shares(step: Step, counts: Counts, stop_if: dict[str, float]) -> None:
    """Stop where a reason took more of the rows than the recipe allows; the parts stay, the step is not done."""
    for name, most in stop_if.items():
        stage, _, reason = name.partition(".")
        found = counts.dropped.get(reason, 0) + counts.rejected.get(reason, 0) + counts.dropped.get(name, 0)
        if stage == step.stage and found > most * counts.rows_in:
            share = found / counts.rows_in
            raise StepError(
                f"{step.name}: {found:,} of {counts.rows_in:,} rows ({share:.1%}) are {reason}, run.stop_if allows "
                f"{most:.1%}; see `python -m pipeline {'rejects' if stage == 'ingest' else 'report'} RECIPE`, mend the "
                f"data, or raise it with --set run.stop_if.{name}=..."
            )


def _circumstances(started: float) -> dict[str, Any]:
    """Host, time, commit and versions: what must never enter a manifest."""
    from importlib.metadata import version

    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "pyarrow": version("pyarrow"),
        "pillow": version("pillow"),
        "commit": commit.stdout.strip() or None,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
    }
