"""Whatever happens to an output folder, the next run that comes to its end leaves what a fresh run would.

A machine of random days: runs that die (after any task, before or after any file gets its name), files that are cut or
deleted, keys of the recipe that change and change back, sources that are touched or written again. At the end of every
run: the bytes are those of a fresh run, nothing half written is left, and no task was done twice without need. Damage
that keeps a file's size is for `verify` to find. A manifest that is no JSON any more is an error, for a person.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.graph.task import Record, Task
from pipeline.graph.task import do as do_task
from pipeline.run import runner
from pipeline.run.runner import Executor, Serial, Take
from pipeline.steps import hash_files, record_slices
from schemas.manifest import MANIFEST, ManifestError
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import opened, write_yaml
from tests.pipeline.executors import Killed

# Section and key of the recipe, and what it may be instead
KEYS = {"max_tokens": ("pretokenise", 120), "min_image_side": ("quality", 20), "rows_per_part": ("ingest", 9)}
SOURCES = ("talks/b.jsonl", "signs/5.png", "exam/exam.jsonl")
FRESH: dict[tuple[frozenset[str], frozenset[str]], dict[str, bytes]] = {}

Done = tuple[str, int]  # the folder of a task, and its number


class OutputFolder(RuleBasedStateMachine):
    """`done`: the tasks whose files are whole; `broken`: manifests that are no JSON; `lost`: records that were hurt
    while a manifest stood, which nobody misses."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="tessera-"))
        self.raw, self.out = self.root / "raw", self.root / "out"
        tiny_corpus.write(self.raw)
        self.changed: frozenset[str] = frozenset()
        self.rewritten: frozenset[str] = frozenset()
        self.done: set[Done] = set()
        self.broken: set[Path] = set()
        self.lost: set[str] = set()
        self.folders: list[str] = []  # in the order in which they came: the names of some hold times
        self.failed = False

    def teardown(self) -> None:
        if not self.failed:
            self.run_to_the_end(0)
        shutil.rmtree(self.root)

    @rule(order=st.integers(0, 3))
    def run_to_the_end(self, order: int) -> None:
        context, steps = self.go(InAnyOrder(self, order))
        self.failed = True
        for step in steps:
            assert context.manifest(step) is not None
        assert not [path for path in self.files(steps) if path.name.startswith(".tmp-")]
        phases = [context.out / step.folder / phase.name for step in steps for phase in step.stage.phases[:-1]]
        assert not [path for path in phases if path.exists()]
        found = {name: data for name, data in contents(self.out, steps).items() if name not in self.lost}
        fresh = {name: data for name, data in self.fresh().items() if name not in self.lost}
        assert found.keys() == fresh.keys()
        assert [name for name in found if found[name] != fresh[name]] == []
        self.failed = False

    @rule(order=st.integers(0, 3), tasks=st.integers(0, 25))
    def run_and_die_between_tasks(self, order: int, tasks: int) -> None:
        with contextlib.suppress(Killed):
            self.go(InAnyOrder(self, order, tasks))

    @rule(order=st.integers(0, 3), names=st.integers(0, 60), after=st.booleans())
    def run_and_die_as_a_file_gets_its_name(self, order: int, names: int, after: bool) -> None:
        with contextlib.suppress(Killed), dying(names, after):
            self.go(InAnyOrder(self, order))

    @precondition(lambda self: self.out.exists())
    @rule(how=st.sampled_from(["cut", "delete", "touch"]), data=st.data())
    def damage(self, how: str, data: st.DataObject) -> None:
        """Some files of one step, of any kind."""
        self.folders += sorted({path.name for path in self.out.iterdir()} - set(self.folders))
        step = self.out / data.draw(st.sampled_from([name for name in self.folders if (self.out / name).exists()]))
        for _ in range(data.draw(st.integers(1, 3))):
            kinds: dict[str, list[Path]] = {}
            for path in sorted(path for path in step.rglob("*") if path.is_file()):
                kinds.setdefault(f"{path.parent.name} {path.name.split('-')[0]} {path.suffix}", []).append(path)
            if kinds:
                self.hurt(data.draw(st.sampled_from(kinds[data.draw(st.sampled_from(list(kinds)))])), how)

    def hurt(self, path: Path, how: str) -> None:
        if how == "touch":
            os.utime(path)
            return
        self.expect(path, how)
        if how == "delete":
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2)

    @rule(key=st.sampled_from(sorted(KEYS)))
    def change_a_key_of_the_recipe_or_change_it_back(self, key: str) -> None:
        self.changed ^= {key}

    @rule(file=st.sampled_from(SOURCES))
    def touch_a_source(self, file: str) -> None:
        os.utime(self.raw / file)

    @rule(file=st.sampled_from(SOURCES))
    def write_a_source_anew_or_as_it_was(self, file: str) -> None:
        self.rewritten ^= {file}
        path = self.raw / file
        other = {
            "talks/b.jsonl": path.read_bytes().replace(b"bridges", b"bridge"),
            "signs/5.png": tiny_corpus.picture(100),
            "exam/exam.jsonl": path.read_bytes().replace(b"number", b"colour"),
        }
        if file in self.rewritten:
            path.write_bytes(other[file])
        else:
            tiny_corpus.write(self.root / "again")
            shutil.copyfile(self.root / "again" / file, path)
            shutil.rmtree(self.root / "again")

    def go(self, executor: Executor) -> tuple[Context, list[Step]]:
        """Run; where a manifest is broken, do what the error says and run again."""
        while True:
            self.failed = True
            try:
                ended = self.run(self.out, executor)
                self.failed = False
                return ended
            except Killed:
                self.failed = False
                raise
            except ManifestError as error:
                assert "not a manifest" in str(error) and "delete the folder" in str(error)
                (path,) = [path for path in self.broken if str(path) in str(error)]
                self.broken.remove(path)
                shutil.rmtree(path.parent)
                self.forget(path.parent)

    def run(self, out: Path, executor: Executor) -> tuple[Context, list[Step]]:
        mapping = tiny_corpus.recipe(self.raw, out)
        for key in self.changed:
            section, value = KEYS[key]
            mapping["data"][section][key] = value
        # a power cut is not among what happens here, so no file need be on the disk
        # small tasks, so that each step has several, also of a corpus this small
        bytes_per_task = mock.patch.object(hash_files, "_BYTES_PER_TASK", 3000)
        files_per_task = mock.patch.object(record_slices, "_FILES_PER_TASK", 1)
        with contextlib.redirect_stdout(io.StringIO()), mock.patch("os.fsync"), bytes_per_task, files_per_task:
            context, steps = opened(write_yaml(self.root / "recipe.yaml", mapping))
            runner.run(steps, context, executor)
        return context, steps

    def fresh(self) -> dict[str, bytes]:
        """What a fresh run of this recipe on these sources leaves."""
        state = self.changed, self.rewritten
        if state not in FRESH:
            _, steps = self.run(self.root / "fresh", Serial())
            FRESH[state] = contents(self.root / "fresh", steps)
            shutil.rmtree(self.root / "fresh")
        return FRESH[state]

    def do(self, task: Task) -> Record:
        """A task, which must not be done already."""
        folder = Path(task.folder)
        name = self.inside(folder), task.number
        assert name not in self.done, f"{name} is done again"
        record = folder / f"part-{task.number:05d}.json"
        try:
            return do_task(task)
        finally:
            if all(path.is_file() and path.stat().st_size == size for path, size in files_of(record)):
                self.done.add(name)
                self.lost.discard(self.inside(record))

    def expect(self, path: Path, how: str) -> None:
        """A file is about to be cut or deleted: what will have to be done again, and what is not missed."""
        step = self.out / path.relative_to(self.out).parts[0]
        manifest = step / MANIFEST
        named = [file["name"] for file in load(manifest).get("files", ())]
        if path == manifest or self.inside(path) in [f"{step.name}/{name}" for name in named]:
            self.done = {(folder, number) for folder, number in self.done if not folder.startswith(f"{step.name}/")}
        if path == manifest:
            self.broken.discard(path)
            if how == "cut":
                self.broken.add(path)
        for record in [*step.glob("part-*.json"), *step.glob("*/part-*.json")]:
            if path in [record, *(file for file, _ in files_of(record))]:
                self.done.discard((self.inside(record.parent), int(record.stem.rpartition("-")[2])))
            if path == record and manifest.is_file():
                self.lost.add(self.inside(record))

    def forget(self, step: Path) -> None:
        """A whole step was deleted."""
        self.done = {(folder, n) for folder, n in self.done if folder.split("/")[0] != step.name}
        self.lost = {name for name in self.lost if name.split("/")[0] != step.name}

    def files(self, steps: list[Step]) -> list[Path]:
        return [path for step in steps for path in (self.out / step.folder).rglob("*")]

    def inside(self, path: Path) -> str:
        return path.relative_to(self.out).as_posix()


class InAnyOrder:
    """Does all tasks that there are in an order of its own, then those that there are then; dies after some."""

    def __init__(self, machine: OutputFolder, order: int, survives: int = 1_000_000) -> None:
        self.machine, self.order, self.left = machine, order, survives

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        while tasks := list(iter(take, None)):
            random.Random(self.order).shuffle(tasks)
            for task in tasks:
                if not self.left:
                    raise Killed
                self.left -= 1
                yield task, self.machine.do(task)


@contextlib.contextmanager
def dying(names: int, after: bool) -> Iterator[None]:
    """Die when so many files have got their names: before the next one gets its own, which stays half written, or
    right after it."""
    left, replace = names, Path.replace

    def dies(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0 and not after:
            shutil.copyfile(path, path.with_name(f".tmp-1-{target.name}"))  # what the clean-up can't reach
            raise Killed
        moved = replace(path, target)
        if left < 0:
            raise Killed
        return moved

    with mock.patch.object(Path, "replace", dies):
        yield


def contents(out: Path, steps: list[Step]) -> dict[str, bytes]:
    """Every file that must be the same in every run: not circumstances, nor listings, which hold times."""
    folders = [out / step.folder for step in steps if step.stage.named_by == "identity"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != "run.json"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def load(path: Path) -> dict[str, Any]:
    """A manifest or a record; nothing where it is none."""
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded


def files_of(record: Path) -> list[tuple[Path, int]]:
    """The files that a record names, with their sizes; itself, as a file that is not there, where it is none."""
    loaded = load(record)
    if not loaded:
        return [(record, -1)]
    return [(record.parent / file["name"], file["size"]) for file in loaded["files"]]


TestOutputFolder = OutputFolder.TestCase
# Ten days, or a hundred by HYPOTHESIS_PROFILE=random; there the shortest that fails is looked for, which takes long
TestOutputFolder.settings = settings(
    max_examples=settings().max_examples // 10,
    stateful_step_count=12,
    phases=[Phase.generate] if settings().derandomize else list(Phase),
)
pytestmark = pytest.mark.timeout(300 if settings().derandomize else 0)
