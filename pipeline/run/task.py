"""A task, the part it makes, and the record of what it did: the types that the runner, the stages and Ray share.

A task is names, never data: it goes to a worker as a few strings. Its record `part-NNNNN.json` is written last; a part
counts as done when the record is there, belongs to the step, and its files have the sizes it says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.graph.build import Step
from pipeline.graph.content import Inventory
from pipeline.net.download_file import Want
from pipeline.net.fetch_many import Crowd
from pipeline.net.http_client import Patience
from pipeline.net.hub import Server
from pipeline.recipe.types import Recipe
from pipeline.storage import commit as storage
from schemas import strict
from schemas.manifest import Counts, FileEntry
from stages.sources.archives.image_files import Place
from stages.sources.declaration import Source
from stages.sources.records.slices import Slice

FETCHED = "files"  # folder of fetched files, in the download step's own


@dataclass(frozen=True)
class Context:
    """A recipe with what its locations hold."""

    recipe: Recipe
    inventory: Inventory

    @property
    def out(self) -> Path:
        return self.recipe.out.absolute()

    def fetched(self, name: str) -> bool:
        """Whether a source's files are fetched, and don't lie in a folder of this machine."""
        return name in self.inventory.remotes

    def place(self, name: str) -> Path:
        return Path(self.recipe.run.locations[name]).expanduser().absolute()


@dataclass(frozen=True)
class Part:
    """One part of samples: its file, the source it comes from, its rows."""

    path: str
    source: str
    rows: int


@dataclass(frozen=True)
class Asking:
    """How addresses in rows are asked."""

    allowed: tuple[str, ...]
    patience: Patience
    crowd: Crowd


@dataclass(frozen=True)
class Task:
    """One part of a step: names, never data. `rows`: how much it is, in bytes where files are to be fetched.

    `wants`, `server`: the files of a download, named relative to the step's folder; the token goes here and not through
    the workers' environment, which Ray writes into its logs.
    """

    stage: str
    identity: str
    folder: str
    number: int
    rows: int
    params: Any
    parts: tuple[Part, ...] = ()
    slice: Slice | None = None
    images: tuple[Place, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    verdicts: Mapping[str, str] = field(default_factory=dict)
    benchmarks: tuple[str, ...] = ()
    wants: tuple[tuple[str, Want], ...] = ()
    server: Server | None = None
    asking: Asking | None = None


@dataclass(frozen=True)
class Record:
    """What one task did; written as part-NNNNN.json when its files are whole.

    Of a download that is not: `problem` says why, and `streak` holds the reasons of the files at its end that failed in
    a row for what concerns all others too (stages/download.py, STOPS).
    """

    identity: str
    number: int
    counts: Counts
    by_source: dict[str, Counts]
    files: tuple[FileEntry, ...]
    problem: str = ""
    streak: tuple[str, ...] = ()


def record_name(number: int) -> str:
    return f"part-{number:05d}.json"


def load_record(task: Task) -> Record | None:
    """The record of a finished part of this very step, if its files are there in full."""
    record = _whole(Path(task.folder) / record_name(task.number), task.identity)
    # how files are shared out among the tasks of a download is no part of the identity
    if record and task.wants and [f.name for f in record.files] != [name for name, _ in task.wants]:
        return None
    return record


def records_in(folder: Path, identity: str) -> list[Record]:
    """The records of all finished parts of a step, in the order of their numbers."""
    found = [_whole(path, identity) for path in folder.glob(record_name(0).replace("00000", "*"))]
    return sorted((record for record in found if record), key=lambda record: record.number)


def _whole(path: Path, identity: str) -> Record | None:
    if not path.is_file():
        return None
    try:
        record = strict.build(Record, json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        return None  # a record of another version of this program: the part is done again
    places = [(path.parent / file.name, file.size) for file in record.files]
    whole = all(place.is_file() and place.stat().st_size == size for place, size in places)
    return record if record.identity == identity and whole else None


def recorded(task: Task, by_source: dict[str, Counts], files: Sequence[FileEntry]) -> Record:
    """Write a finished task's record, last."""
    record = Record(task.identity, task.number, sum(by_source.values(), Counts()), by_source, tuple(files))
    text = json.dumps({k: v for k, v in asdict(record).items() if k not in ("problem", "streak")}, sort_keys=True)
    storage.commit_text(Path(task.folder) / record_name(task.number), text + "\n")
    return record


def records_of(step: Step, context: Context, source: Source) -> tuple[Path, list[str]]:
    """The source's folder, and the record files in it as the download step listed them."""
    folder = context.out / step.inputs[0].folder
    root = folder / FETCHED if context.fetched(step.label) else context.place(step.label)
    listing = pq.read_table(folder / "files.parquet").to_pylist()
    return root, [row["file"] for row in listing if row["role"] == "records"]
