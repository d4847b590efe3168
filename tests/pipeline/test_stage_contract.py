"""What the contract of a stage promises to one that the program has never heard of (see crowd.py), in two phases."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.commands import funnel, plan, rejects, report, show, verify
from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Step
from pipeline.graph.task import Task
from pipeline.run import runner
from pipeline.run import step as at_work
from pipeline.run.runner import Executor
from pipeline.steps.samples import parts_of
from pipeline.storage import layout
from schemas import yaml_file
from schemas.manifest import ManifestError
from schemas.strict import RecipeError
from tests.pipeline import crowd
from tests.pipeline.conftest import opened, write_yaml
from tests.pipeline.executors import Counts, DiesAfter, Killed

Finished = tuple[Path, Context, list[Step]]


@pytest.fixture(scope="module")
def crowded(tiny_run: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny run, with the stage put in."""
    path, context, _ = tiny_run
    out = tmp_path_factory.mktemp("crowded") / "out"
    shutil.copytree(context.out, out)
    context, steps = opened(path, out, crowd.TABLE)
    assert runner.run(steps, context, Counts()) == 2
    return path, context, steps


@pytest.fixture
def before(crowded: Finished, tmp_path: Path) -> tuple[Path, Path]:
    """(recipe, output folder) of a run that has come to the stage and no further."""
    path, context, steps = crowded
    for step in steps[:-2]:
        shutil.copytree(context.out / step.folder, tmp_path / "out" / step.folder)
    return path, tmp_path / "out"


def go_on(path: Path, out: Path, executor: Executor) -> None:
    """Run the stage alone, as a new process would."""
    context, steps = opened(path, out, crowd.TABLE)
    runner.run([the_stage(steps)], context, executor)


def the_stage(steps: list[Step]) -> Step:
    return next(step for step in steps if step.stage is crowd.CROWD)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder that must be the same however often it was interrupted."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != layout.RUN]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def dropped(steps: list[Step], context: Context) -> set[str]:
    """What the stage has to drop, by all samples in the order of the parts."""
    seen: Counter[int] = Counter()
    found = set()
    for part in parts_of(the_stage(steps).inputs, context):
        for row in pq.read_table(part.path, columns=["sample_id", "messages"]).to_pylist():
            seen[crowd.key(row["messages"])] += 1
            if seen[crowd.key(row["messages"])] > crowd.MOST:
                found.add(row["sample_id"])
    return found


def test_what_it_drops_is_counted_and_is_in_no_shard(crowded: Finished, tiny_run: Finished) -> None:
    _, context, steps = crowded
    gone = dropped(steps, context)
    assert 10 < len(gone) < 30
    assert context.finished(the_stage(steps)).counts.dropped == {"crowded": len(gone)}
    without, within = judged(tiny_run[1], tiny_run[2][-1]), judged(context, steps[-1])
    kept = {name for name, (_, reason) in without.items() if reason is None}
    assert {name for name, (_, reason) in within.items() if reason is None} == kept - gone != kept
    assert set(pq.read_table(context.out / steps[-1].folder / layout.INDEX)["sample_id"].to_pylist()) == kept - gone
    taken = {name for name, (stage, _) in within.items() if stage == "crowd"}
    assert taken == {name for name in gone if without[name][0] in (None, "pretokenise")} != gone
    assert context.finished(steps[-1]).counts.dropped["crowd.crowded"] == len(taken)


def judged(context: Context, last: Step) -> dict[str, tuple[str | None, str | None]]:
    """sample_id -> (stage, reason) of the step that makes the shards."""
    tables = [pq.read_table(path) for path in sorted((context.out / last.folder).glob("verdict-*"))]
    return {row["sample_id"]: (row["stage"], row["reason"]) for table in tables for row in table.to_pylist()}


def test_its_verdicts_are_an_input_of_the_shards(crowded: Finished) -> None:
    _, context, steps = crowded
    stage = the_stage(steps)
    assert context.finished(steps[-1]).inputs[stage.folder] == stage.identity


def test_killed_after_any_task_of_any_phase_it_ends_with_the_same_bytes(
    crowded: Finished, before: tuple[Path, Path]
) -> None:
    _, context, steps = crowded
    stage, runs = the_stage(steps), 1
    while True:
        try:
            go_on(*before, DiesAfter(1))
            break
        except Killed:
            runs += 1
    assert runs == 2 * len(parts_of(stage.inputs, context))
    assert contents(before[1] / stage.folder) == contents(context.out / stage.folder)


def test_a_damaged_file_of_an_earlier_phase_costs_its_own_task_and_no_other(
    crowded: Finished, before: tuple[Path, Path]
) -> None:
    _, context, steps = crowded
    stage = the_stage(steps)
    many = len(parts_of(stage.inputs, context))
    with pytest.raises(Killed):
        go_on(*before, DiesAfter(many + 2))
    folder = before[1] / stage.folder
    hurt = sorted((folder / "sketches").glob("bucket-*-00003.parquet"))[0]
    hurt.write_bytes(hurt.read_bytes()[:-1])
    done = [layout.number_of(path.name) for path in layout.records(folder)]
    assert len(done) == 2
    go_on(*before, second := Counts())
    numbers = [(Path(task.folder).name, task.number) for task in second.tasks]
    assert numbers[0] == ("sketches", 3)
    assert sorted(n for _, n in numbers[1:]) == sorted(set(range(many)) - set(done))
    assert contents(folder) == contents(context.out / stage.folder)


def test_the_second_phase_begins_when_the_first_is_done_and_is_cut_by_its_records(
    crowded: Finished, before: tuple[Path, Path]
) -> None:
    go_on(*before, counted := Counts())
    sketches = [task for task in counted.tasks if Path(task.folder).name == "sketches"]
    rest = counted.tasks[len(sketches) :]
    assert counted.tasks[: len(sketches)] == sketches and len(rest) == len(sketches)
    keys = {tuple(sorted({Path(path).name.split("-")[1] for path in job(task).buckets})) for task in rest}
    assert len(keys) > 1  # one part lacks a key that another has


def job(task: Task) -> crowd.PartJob:
    assert isinstance(task.job, crowd.PartJob)
    return task.job


def test_its_scratch_goes_after_the_manifest_even_where_the_run_was_killed_between(
    crowded: Finished, before: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, context, steps = crowded
    folder = before[1] / the_stage(steps).folder
    assert not (context.out / folder.name / "sketches").exists()

    def die(*_: object) -> None:
        assert (folder / "manifest.json").is_file()
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(at_work, "remove_scratch", die)
        with pytest.raises(Killed):
            go_on(*before, Counts())
    assert list((folder / "sketches").iterdir())
    go_on(*before, second := Counts())
    assert not second.tasks and not (folder / "sketches").exists()
    assert contents(folder) == contents(context.out / folder.name)


@pytest.mark.parametrize("survives", [3, 10])
def test_the_plan_says_how_far_it_is(survives: int, crowded: Finished, before: tuple[Path, Path]) -> None:
    def state() -> tuple[str, str]:
        context, steps = opened(*before, crowd.TABLE)
        return plan.state(the_stage(steps), context)

    assert state() == ("to do", "never run")
    with pytest.raises(Killed):
        go_on(*before, DiesAfter(survives))
    assert state() == ("to do", f"interrupted: {survives} parts are done and stay")
    go_on(*before, Counts())
    assert state() == ("done", "")


def test_every_command_knows_its_verdicts_by_what_it_makes(
    crowded: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    _, context, steps = crowded
    gone, count = dropped(steps, context), context.finished(steps[-1]).counts.dropped["crowd.crowded"]
    made = funnel.funnel(steps, context)
    lines = dict(funnel.rows(made))
    assert lines["dropped crowd.crowded"][-1] == count > 0
    # in running order: after the filters before it, before what the shards' own stage drops
    order = [what.split(".")[0].removeprefix("dropped ") for what in lines if what.startswith("dropped")]
    assert list(dict.fromkeys(order)) == [n for n in crowd.TABLE if n in order] and order[-2:] == ["dedupe", "crowd"]
    assert report.content(made, [])["reasons"]["crowd.crowded"] == crowd.REASONS["crowded"]
    shown = {one: _shown(steps, context, one) for one in (min(gone), max(gone))}
    assert all("crowd          drop: crowded  key " in text for text in shown.values())
    assert rejects.show(steps, context) == sum(made.all.rejected.values()) == 2
    folder = context.out / the_stage(steps).folder
    assert verify.check(folder, crowd.TABLE).stage == "crowd"
    with pytest.raises(ManifestError, match=r"stage.crowd: unknown key"):
        verify.check(folder)


def _shown(steps: list[Step], context: Context, sample_id: str) -> str:
    stream = io.StringIO()
    show.show(steps, context, sample_id, Console(file=stream, width=240))
    return stream.getvalue()


def test_its_reasons_may_stop_a_run(before: tuple[Path, Path], tiny_run: Finished, tmp_path: Path) -> None:
    path = stopping(tiny_run, tmp_path, {"crowd.crowded": 0.2})
    with pytest.raises(StepError, match=r"crowd: \d+ of 35 rows .* are crowded, run.stop_if allows 20.0%"):
        go_on(path, before[1], Counts())
    with pytest.raises(RecipeError, match=r"run.stop_if.crowd.crowded: unknown key"):
        opened(path, before[1])
    path = stopping(tiny_run, tmp_path, {"crowd.crowdy": 0.2})
    with pytest.raises(RecipeError, match=r"run.stop_if.crowd.crowdy: unknown key; did you mean 'crowd.crowded'"):
        opened(path, before[1], crowd.TABLE)


def stopping(tiny_run: Finished, folder: Path, stop_if: dict[str, float]) -> Path:
    """The recipe of the tiny run, with shares that stop it."""
    mapping = yaml_file.read(tiny_run[0])
    mapping["run"]["stop_if"] = stop_if
    return write_yaml(folder / "stopping.yaml", mapping)
