"""One step at work: phase after phase its tasks, what is left of them, their records; then the manifest, last.

Order on disk: a task's files, then its record; all tasks done, the next phase; all phases done, the step's own files,
`run.json`, `manifest.json`; then the folders of the earlier phases go. Killed anywhere, the next run finds whole files
with records, or none. Results may come in any order, because records are put in the order of their numbers.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Ending, Phase, Step, ledger
from pipeline.graph.task import Job, Record, Task, load_record
from pipeline.run.circumstances import circumstances
from pipeline.run.progress import Screen, StepProgress
from pipeline.storage import layout
from pipeline.storage.commit import clean, commit_text
from pipeline.storage.part_writer import PartWriter, rows_so_far
from schemas.manifest import MANIFEST, Counts, Manifest

STREAK = 3  # so many files in a row that failed for what concerns all: then the others are not asked for


class Doing:
    """A step that has begun. Ask `advance` for the tasks of a phase, give it every record by `add`."""

    def __init__(self, step: Step, context: Context, screen: Screen) -> None:
        self.step, self._context, self._screen = step, context, screen
        self.folder = context.out / step.folder
        self._started = time.time()
        self._before = context.manifest(step)
        self._phases = list(step.stage.phases)
        self._records: dict[int, Record] = {}
        self._jobs: Sequence[Job] = ()
        self._left = 0
        self._running: set[int] = set()
        self.stopped = ""  # or the reason why the tasks that are left are of no use
        self._streak: tuple[str, ...] = ()
        step.stage.require(step, context)
        self.folder.mkdir(parents=True, exist_ok=True)
        context.forget(step)
        (self.folder / MANIFEST).unlink(missing_ok=True)  # a step that is due again is not done while its parts change

    @property
    def over(self) -> bool:
        """Whether all tasks of the phase are done, or given up."""
        return not self._left

    def advance(self) -> list[Task]:
        """The tasks to do of the next phase that has any, the largest first; none: the step is finished."""
        while self._phases:
            phase = self._phases.pop(0)
            tasks = self._begin(phase)
            if tasks:
                return tasks
            self._end_phase()
        self._finish()
        return []

    def begin(self, task: Task) -> None:
        """A task is handed out."""
        self._running.add(task.number)

    def add(self, task: Task, record: Record) -> None:
        """A task has ended."""
        self._left -= 1
        self._running.discard(task.number)
        self._records[record.number] = record
        self.progress.add(record.counts, task.job.amount, task.job.parts, record.seconds)
        self._streak = (self._streak if len(record.streak) == record.counts.rows_in else ()) + record.streak
        if len(self._streak) >= STREAK:
            self.stopped = self._streak[-1]
        if self.over:
            self._end_phase()

    def give_up(self, task: Task) -> None:
        """A task was not begun, because it is of no use."""
        self._left -= 1
        if self.over:
            self._end_phase()

    def _begin(self, phase: Phase) -> list[Task]:
        before = [self._records[number] for number in sorted(self._records)]
        folder = self.folder if not self._phases else self.folder / phase.name
        folder.mkdir(exist_ok=True)
        clean(folder)
        jobs = phase.split(self.step, self._context, before)
        tasks = [Task(self.step.identity, str(folder), number, phase.do, job) for number, job in enumerate(jobs)]
        found = {task.number: record for task in tasks if (record := load_record(task))}
        self._records = {number: record for number, record in found.items() if phase.keep(jobs[number], record)}
        todo = [task for task in tasks if task.number not in self._records]
        self._phase, self._jobs, self._left, self._streak = phase, jobs, len(todo), ()
        if problem := phase.before(folder, [task.job for task in todo]):
            raise StepError(f"{self.step.name}: {problem}")
        self._show(folder, tasks)
        # what comes last should not take longest
        return sorted(todo, key=lambda task: -task.job.amount)

    def _show(self, folder: Path, tasks: Sequence[Task]) -> None:
        phase, records = self._phase, self._records

        def live() -> int:
            if phase.unit == "samples":
                return rows_so_far(folder, self._running)
            return phase.live(folder, [task.job for task in tasks if task.number not in records])

        name = self.step.name if not self._phases else f"{self.step.name}: {phase.name}"
        parts, amount = (sum(getattr(job, key) for job in self._jobs) for key in ("parts", "amount"))
        self.progress = StepProgress(name, parts, amount, phase.unit, live, phase.word)
        for number, record in records.items():
            self.progress.add(record.counts, self._jobs[number].amount, self._jobs[number].parts, None)
        self._screen.begin(self.progress)

    def _end_phase(self) -> None:
        self._refuse_failed()
        if self._phases:
            self._screen.end(self.progress)

    def _refuse_failed(self) -> None:
        """After all others were tried, or it was no use to: one line for the files that are not there."""
        records = [self._records[number] for number in sorted(self._records)]
        problems = [record.problem for record in records if record.problem]
        if not problems:
            return
        self._screen.end(self.progress)
        files, name = self.progress.parts, self.step.name
        if self.stopped:
            left = files - sum(record.counts.kept for record in records)
            why = self._phase.stops[self.stopped]
            raise StepError(f"{name}: {why}; {left:,} of {files:,} files left, run again to go on: {problems[-1]}")
        # a task of files counts those that failed; of another, and of one that ended at the first, it is one
        failed = sum(sum(record.counts.rejected.values()) or 1 for record in records if record.problem)
        more = f"; and {failed - 1:,} more" if failed > 1 else ""
        raise StepError(
            f"{name}: {failed:,} of {files:,} {self.progress.word} {self._phase.failed}: {problems[0]}{more}; "
            "the others stay, run again to go on"
        )

    def _finish(self) -> None:
        step, context = self.step, self._context
        records = [self._records[number] for number in sorted(self._records)]
        writer = PartWriter(self.folder)
        ending = step.stage.finish(Ending(step, context, records, self._before), writer)
        by_source = ledger(records)
        manifest = Manifest(
            stage=step.stage.name,
            version=step.stage.version,
            identity=step.identity,
            parameters=json.loads(json.dumps(step.parameters)),
            inputs=step.named(step.inputs, context),
            benchmarks=step.named(step.benchmarks, context),
            counts=sum(by_source.values(), Counts()),
            by_source=by_source,
            files=tuple([file for record in records for file in record.files] + writer.entries),
            facts=ending.facts,
        )
        self._screen.end(self.progress, ending.note)
        step.stage.check(step, manifest, context)
        _check_shares(step, manifest.counts, context)
        run = {**circumstances(self._started), **ending.circumstances}
        commit_text(self.folder / layout.RUN, json.dumps(run, indent=2, sort_keys=True) + "\n")
        commit_text(self.folder / MANIFEST, manifest.to_json())
        context.remember(step, manifest)
        remove_scratch(step, self.folder)


def remove_scratch(step: Step, folder: Path) -> None:
    """The files of all phases but the last: they have served once the manifest is there."""
    for phase in step.stage.phases[:-1]:
        shutil.rmtree(folder / phase.name, ignore_errors=True)


def _check_shares(step: Step, counts: Counts, context: Context) -> None:
    """Stop where a reason took more of the rows than the recipe allows; the parts stay, the step is not done."""
    for name, most in context.recipe.run.stop_if.items():
        stage, _, reason = name.partition(".")
        found = counts.dropped.get(reason, 0) + counts.rejected.get(reason, 0) + counts.dropped.get(name, 0)
        if stage == step.stage.name and found > most * counts.rows_in:
            share = found / counts.rows_in
            rejects = step.stage.makes == "samples"  # of other steps no command shows what is not finished
            look = "`python -m pipeline rejects RECIPE`" if rejects else f"the files of {context.out / step.folder}"
            raise StepError(
                f"{step.name}: {found:,} of {counts.rows_in:,} rows ({share:.1%}) are {reason}, run.stop_if allows "
                f"{most:.1%}; see {look}, mend the data, or raise it with --set run.stop_if.{name}=..."
            )
