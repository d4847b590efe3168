"""The files of a folder are hashed, each once: however often the run is killed, and whatever an earlier one knew."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.run import runner
from pipeline.run.runner import Serial
from pipeline.steps import hash_files
from schemas.manifest import read
from tests.pipeline.conftest import ROOT, opened
from tests.pipeline.test_resume import Counts, DiesAfter, Killed

FILES = 20
COMMAND = (sys.executable, "-m", "pipeline", "hash")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe on a folder of small files, of which five fill a task."""
    monkeypatch.setattr(hash_files, "_BYTES_PER_TASK", 500)
    images = tmp_path / "raw" / "images"
    images.mkdir(parents=True)
    for number in range(FILES):
        (images / f"{number:02d}.jpg").write_bytes(b"%d" % (number % 10) * 100)
    (tmp_path / "raw" / "records.jsonl").write_text("{}\n")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    source = {"format": "conversations", "files": ["*.jsonl"], "images": "images"}
    places = {"small": str(tmp_path / "raw"), "tokenizer": str(tmp_path / "tokenizer")}
    mapping = {
        "data": {"sources": {"small": source}, "pretokenise": {}},
        "run": {"out": str(tmp_path / "out"), "locations": places},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(mapping))
    return path


def hashed(recipe: Path, executor: runner.Executor) -> dict[str, str]:
    """The sha256 of every file, as the finished step lists them."""
    context, steps = opened(recipe)
    runner.run(steps[:1], context, executor)
    table = pq.read_table(context.out / steps[0].folder / "files.parquet")
    return dict(zip(table["file"].to_pylist(), table["sha256"].to_pylist(), strict=True))


def what_is_there(recipe: Path) -> dict[str, str]:
    root = recipe.parent / "raw"
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("survives", [1, 2, 3, 4])
def test_killed_after_any_task_no_file_is_lost_and_none_is_hashed_by_two_tasks(recipe: Path, survives: int) -> None:
    with pytest.raises(Killed):
        hashed(recipe, DiesAfter(survives))
    assert hashed(recipe, counted := Counts()) == what_is_there(recipe)
    assert len(counted.tasks) == 5 - survives
    (folder,) = (recipe.parent / "out").glob("01-hash-*")
    assert read(folder).counts.kept == FILES + 1


def test_a_changed_file_is_hashed_again_and_the_others_are_taken_over(recipe: Path) -> None:
    hashed(recipe, Serial())
    (recipe.parent / "raw" / "images" / "07.jpg").write_bytes(b"another")
    found = hashed(recipe, counted := Counts())
    assert found == what_is_there(recipe)
    assert [task.job.amount for task in counted.tasks if task.job.amount] == [len(b"another")]


@pytest.mark.slow
def test_20000_files_are_hashed_under_kill_9_and_what_was_done_before_stays(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command on Ray, killed three times as soon as it has done a little more than the last."""
    monkeypatch.undo()  # tasks of 1,024 files
    images = recipe.parent / "raw" / "images"
    for number in range(20_000):
        (images / f"{number:05d}.jpg").write_bytes(b"%d" % number * 4000)
    records: dict[Path, int] = {}
    for _ in range(3):
        records |= killed_with_more_than(len(records), recipe)
        assert {path: path.stat().st_mtime_ns for path in records} == records, "done again"
    done = subprocess.run([*COMMAND, str(recipe)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (recipe.parent / "out").glob("01-hash-*")
    table = pq.read_table(folder / "files.parquet")
    found = dict(zip(table["file"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    assert found == what_is_there(recipe)
    assert {path: path.stat().st_mtime_ns for path in records} == records


def killed_with_more_than(done: int, recipe: Path) -> dict[Path, int]:
    """Run until more than so many tasks are done, and kill; the records that are there, with their times."""
    process = subprocess.Popen([*COMMAND, str(recipe)], cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    pattern = "out/01-hash-*/**/part-*.json"
    while len(list(recipe.parent.glob(pattern))) <= done and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    time.sleep(1)  # workers of Ray end a little later than what they work for
    return {path: path.stat().st_mtime_ns for path in recipe.parent.glob(pattern)}
