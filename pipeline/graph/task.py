"""A task, what it did, and the record of it.

A task is names, never data: a few strings that a worker reads its input by. Its record `part-NNNNN.json` is written
last; a task counts as done when the record is there, belongs to the step, and its files have the sizes it says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.storage import layout
from pipeline.storage.commit import commit_text
from pipeline.storage.part_writer import PartWriter
from schemas import json_file, strict
from schemas.manifest import Counts, FileEntry, ManifestError
from stages.sources.records.streams import DataError


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one task is given; each phase has its own kind.

    amount  how much it is, in rows or in bytes (the phase's unit); the largest are begun first
    parts   how many parts, or files, it is for the person who waits
    """

    amount: int
    parts: int = 1


@dataclass(frozen=True)
class Done:
    """What a task did, as its phase's `do` tells it: its ledger by source, and facts for the end of the step.

    Of a task that failed through no fault of this program (a server, a disk, damaged data): `problem` says why, nothing
    is recorded, and the next run tries again. `streak`: the reasons of those files at its end that failed in a row for
    what concerns all other tasks too.
    """

    by_source: dict[str, Counts]
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    streak: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One job of a step's phase. `folder`: where its files and its record go; `do` must be a module's function."""

    identity: str
    folder: str
    number: int
    do: Callable[[Any, PartWriter], Done]
    job: Job


@dataclass(frozen=True)
class Record:
    """What one task did; written as part-NNNNN.json when its files are whole.

    Not written: `problem` and `streak` (see Done), and the `seconds` that it took.
    """

    identity: str
    number: int
    counts: Counts
    by_source: dict[str, Counts]
    files: tuple[FileEntry, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    streak: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> str:
        """The bytes of part-NNNNN.json."""
        return json.dumps({k: v for k, v in asdict(self).items() if k not in _UNWRITTEN}, sort_keys=True) + "\n"


_UNWRITTEN = ("problem", "streak", "seconds")


def do(task: Task) -> Record:
    """Do one task, wherever it runs, and write its record, last."""
    started = time.monotonic()
    writer = PartWriter(Path(task.folder), task.number)
    try:
        done = task.do(task.job, writer)
    except (DataError, ManifestError) as error:  # what it reads is not what it should be: that is no bug
        done = Done({}, problem=str(error))
    total = sum(done.by_source.values(), Counts())
    files = tuple(writer.entries)
    record = Record(task.identity, task.number, total, done.by_source, files, done.facts, done.problem, done.streak)
    if not record.problem:
        commit_text(writer.folder / layout.record(task.number), record.to_json())
    return replace(record, seconds=time.monotonic() - started)


def load_record(task: Task) -> Record | None:
    """The record of this very task by an earlier run, if its files are there in full."""
    return _whole(Path(task.folder) / layout.record(task.number), task.identity)


def records_in(folder: Path, identity: str) -> list[Record]:
    """The records of all finished tasks of a step, in the order of their numbers."""
    return [record for path in layout.records(folder) if (record := _whole(path, identity))]


def _whole(path: Path, identity: str) -> Record | None:
    try:
        record = strict.build(Record, json_file.read(path))
    except (OSError, ValueError):
        return None  # none, or one of another version of this program: the task is done again
    places = [(path.parent / file.name, file.size) for file in record.files]
    whole = all(place.is_file() and place.stat().st_size == size for place, size in places)
    ours = (record.identity, record.number) == (identity, layout.number_of(path.name))
    return record if ours and whole else None
