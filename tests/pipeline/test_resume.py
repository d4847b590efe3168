"""Same recipe, same bytes: whatever the order, the place, the interruptions."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage.commit import OutputBusy, lock
from tests.pipeline.conftest import ROOT, MakeRecipe, do, manifests, opened, run
from tests.pipeline.executors import Counts, DiesAfter, Killed, Shuffled

Finished = tuple[Path, Context, list[Step]]


def test_another_order_and_another_place_give_the_same_bytes(
    finished_run: Finished, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    _, context, steps = finished_run
    moved = tmp_path / "elsewhere"
    shutil.copytree(Path(context.recipe.run.locations["fine"]), moved)

    def move(mapping: dict[str, dict[str, dict[str, str]]]) -> None:
        mapping["run"]["locations"]["fine"] = str(moved)

    other, _ = run(make_recipe(move), executor=Shuffled())
    assert manifests(other.out, steps) == manifests(context.out, steps)


def test_killed_after_any_task_the_next_runs_end_with_the_same_bytes(
    finished_run: Finished, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """One task per run, so that every task of every stage is once the last before the process dies."""
    _, context, steps = finished_run
    run(make_recipe(), tmp_path / "counted", executor=(counted := Counts()))
    path, runs = make_recipe(), 0
    while True:
        runs += 1
        try:
            other, _ = run(path, executor=DiesAfter(1))
            break
        except Killed:
            continue
    assert runs == len(counted.tasks)
    assert manifests(other.out, steps) == manifests(context.out, steps)


def test_finished_work_is_not_done_again(finished_run: Finished) -> None:
    path, _, _ = finished_run
    context, steps = opened(path)
    assert all(context.manifest(step) for step in steps)
    folder = context.out / next(step for step in steps if step.name == "quality").folder
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("verdict-*")}
    manifest = folder / "manifest.json"
    record = manifest.read_bytes()
    manifest.unlink()
    run(path, executor=DiesAfter(0))  # every part has its record: nothing is executed
    assert manifest.read_bytes() == record
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("verdict-*")} == before


def test_a_part_whose_file_was_damaged_in_size_is_done_again(make_recipe: MakeRecipe) -> None:
    path = make_recipe()
    context, steps = run(path)
    ingest = next(s for s in steps if s.stage.name == "ingest")
    folder = context.out / ingest.folder
    whole = (folder / "part-00000.parquet").read_bytes()
    (folder / "manifest.json").unlink()
    (folder / "part-00000.parquet").write_bytes(whole[:-100])
    (folder / ".tmp-1-part-00001.parquet").write_bytes(b"half")
    run(path)
    assert (folder / "part-00000.parquet").read_bytes() == whole
    assert not list(folder.glob(".tmp-*"))


def test_a_changed_threshold_redoes_its_filter_and_what_reads_its_verdicts(
    finished_run: Finished, make_recipe: MakeRecipe
) -> None:
    _, context, steps = finished_run

    def stricter(mapping: dict[str, dict[str, dict[str, object]]]) -> None:
        mapping["data"]["quality"]["min_image_side"] = 70

    _, changed = opened(make_recipe(stricter), context.out)
    moved = {new.stage.name for old, new in zip(steps, changed, strict=True) if old.identity != new.identity}
    assert moved == {"quality", "dedupe", "pretokenise"}  # nothing is compared again


def test_changed_content_changes_identity_and_a_touched_file_is_hashed_again_and_nothing_else(
    finished_run: Finished, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    _, done, steps = finished_run
    copy = tmp_path / "copy"
    shutil.copytree(Path(done.recipe.run.locations["japanese"]), copy)

    def move(mapping: dict[str, dict[str, dict[str, str]]]) -> None:
        mapping["run"]["locations"]["japanese"] = str(copy)

    path = make_recipe(move)
    do(path, None, ["hash"])
    known = {step.name: step.identity for step in opened(path)[1]}
    rest = {step.name: step.identity for step in steps if step.name != "hash japanese"}
    assert rest.items() <= known.items()
    os.utime(copy / "part-0.parquet")
    touched = {step.name: step.identity for step in opened(path)[1]}
    assert touched["hash japanese"] != known["hash japanese"]
    assert {name for name, identity in touched.items() if not identity} >= {"ingest japanese", "pretokenise"}
    do(path, None, ["hash"])
    assert rest.items() <= {step.name: step.identity for step in opened(path)[1]}.items()
    (copy / "part-1.parquet").write_bytes((copy / "part-0.parquet").read_bytes())
    do(path, None, ["hash"])
    moved = {step.name for step in opened(path)[1] if step.identity != known[step.name]}
    assert moved >= {"hash japanese", "ingest japanese", "pretokenise"}
    assert not moved & {"ingest fine", "ingest llava", "ingest held_out"}


def test_tasks_carry_names_not_data(make_recipe: MakeRecipe) -> None:
    run(make_recipe(), executor=(counted := Counts()))
    assert len(counted.tasks) > 20
    for task in counted.tasks:
        assert len(pickle.dumps(task)) < 16_384, task.folder


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from pipeline.storage.commit import lock\n"
        "with lock(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline().strip() == "held"
        with pytest.raises(OutputBusy, match=str(holder.pid)), lock(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with lock(tmp_path):
        pass


@pytest.mark.slow
def test_kill_9_of_a_real_run_leaves_what_the_next_run_completes(
    finished_run: Finished, make_recipe: MakeRecipe
) -> None:
    """The real command under Ray, killed at growing times until it ends by itself."""
    _, context, steps = finished_run
    path = make_recipe()
    out = path.parent / "out"
    delay = 4.0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", str(path)],
            cwd=ROOT,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
        )
        try:
            assert process.wait(delay) == 0
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(0.5)
            delay += 2.0
    assert manifests(out, steps) == manifests(context.out, steps)
