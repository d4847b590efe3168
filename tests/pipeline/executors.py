"""Executors that do what a queue of tasks may have to live through: death, disorder, and being watched."""

from __future__ import annotations

import random
from collections.abc import Iterator

from pipeline.graph.task import Record, Task, do
from pipeline.run.runner import Take


class Killed(BaseException):
    """Stands for the end of the process."""


class DiesAfter:
    """Runs `survives` tasks, then dies as a killed process does: without any clean-up of ours."""

    def __init__(self, survives: int) -> None:
        self.left = survives

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        while (task := take()) is not None:
            if self.left == 0:
                raise Killed
            self.left -= 1
            yield task, do(task)


class Counts:
    """Does tasks as they come, and keeps them."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        while (task := take()) is not None:
            self.tasks.append(task)
            yield task, do(task)


class Shuffled:
    """Takes all tasks that there are, and does them in a keyed random order."""

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        while order := list(iter(take, None)):
            random.Random(f"order {len(order)}").shuffle(order)
            for task in order:
                yield task, do(task)
