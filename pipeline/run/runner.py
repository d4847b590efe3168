"""Run steps: one queue of tasks, of every step that can begin, side by side.

A step begins when all that it needs is finished and nothing else is there to hand out: so sources are read beside each
other, and what a step waits for is what it reads. Who executes is given: it asks for one task at a time, and what a
finished task makes possible is there when it asks next. A step that is named by what another brought is named then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from pipeline.graph.context import Context
from pipeline.graph.errors import MissingInput
from pipeline.graph.stage import Step
from pipeline.graph.task import Record, Task, do
from pipeline.run.progress import Screen
from pipeline.run.step import Doing, remove_scratch

Take = Callable[[], Task | None]


class Executor(Protocol):
    """Runs tasks: takes each from `take` only when it can begin, until none is left and none is running.

    Yields each finished task with its record, and None at least about once a second so that progress can be shown.
    """

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]: ...


class Serial:
    """Executes in this process, one after another: for tests, and the measure that Ray is compared with."""

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        while (task := take()) is not None:
            yield task, do(task)


def run(steps: Iterable[Step], context: Context, executor: Executor, again: bool = False) -> int:
    """Do those of the steps that are due, in any order that their inputs allow; how many were.

    `again`: the person asked for just these, so what may heal is asked again. Raises MissingInput if an input is
    neither finished nor among the steps, StepError if a step can't go on.
    """
    with Screen() as screen:
        queue = Queue(steps, context, screen, again)
        for ended in executor.run(queue.take):
            if ended is not None:
                queue.add(*ended)
            screen.tick()
        return queue.done


class Queue:
    """The tasks of a run. `done`: steps that were finished in it."""

    def __init__(self, steps: Iterable[Step], context: Context, screen: Screen, again: bool = False) -> None:
        self._waiting = list(steps)
        self._context, self._screen, self._again = context, screen, again
        self._doing: list[Doing] = []
        # by the folder of its tasks: two sources in one folder have steps of one identity
        self._at: dict[str, Doing] = {}
        self._tasks: deque[Task] = deque()
        self.done = 0

    def take(self) -> Task | None:
        """The next task; None while there is none. Raises MissingInput when nothing that is waiting can ever begin."""
        while True:
            while self._tasks:
                task = self._tasks.popleft()
                doing = self._at[task.folder]
                if not doing.stopped:
                    doing.begin(task)
                    return task
                doing.give_up(task)
            if not self._begin_next():
                return None

    def add(self, task: Task, record: Record) -> None:
        """A task has ended."""
        doing = self._at[task.folder]
        doing.add(task, record)
        if doing.over:
            self._advance(doing)

    def _begin_next(self) -> bool:
        """Begin the first waiting step that can; whether there was one."""
        for step in self._waiting:
            if self._ready(step):
                self._waiting.remove(step)
                self._begin(step)
                return True
        if self._waiting and not self._doing:
            step = self._waiting[0]
            missing = next(needed for needed in step.needs if not self._context.manifest(needed))
            raise MissingInput(
                f"{step.name}: its input {missing.name} is not finished; "
                f"run `python -m pipeline {missing.stage.name} RECIPE` first"
            )
        return False

    def _ready(self, step: Step) -> bool:
        """Whether all that it needs is finished, and will not be done again in this run."""
        pending = [*self._waiting, *(doing.step for doing in self._doing)]
        if any(needed in pending for needed in step.needs):
            return False
        return step.resolve(self._context) and all(map(self._context.manifest, step.needs))

    def _begin(self, step: Step) -> None:
        manifest = self._context.manifest(step)
        if manifest is not None and not step.stage.again(step, manifest, self._context, self._again):
            remove_scratch(step, self._context.out / step.folder)
            if remark := step.stage.remark(step, manifest):
                self._screen.say(f"{step.name}: {remark}")
            return
        for other in self._waiting:
            if other.reads(step):
                other.identity = ""  # what this step brings may be another thing than last time
        self._doing.append(Doing(step, self._context, self._screen))
        self._advance(self._doing[-1])

    def _advance(self, doing: Doing) -> None:
        """The tasks of its next phase; or it is finished."""
        tasks = doing.advance()
        self._tasks.extend(tasks)
        if tasks:
            self._at[tasks[0].folder] = doing
        else:
            self._doing.remove(doing)
            self.done += 1
            self._foresee(doing.step)

    def _foresee(self, done: Step) -> None:
        """What a step has brought may show that one that waits for it is of no use."""
        for step in self._waiting:
            if done in step.brought.values():
                step.stage.foresee(step, self._context)
