"""Rows are counted across steps: what a step keeps the next one sees, or the run ends with a sentence.

And where a reason takes more than the recipe allows (`run.stop_if`), it ends too, and goes on when that is raised.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands import rejects
from pipeline.commands.funnel import funnel
from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Stage, Step
from pipeline.graph.task import Done
from pipeline.run import runner
from pipeline.run.runner import Serial
from pipeline.steps.table import STAGES
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts, ManifestError
from tests.pipeline import crowd
from tests.pipeline.conftest import MakeRecipe, opened
from tests.pipeline.executors import Counts as Watched

Finished = tuple[Path, Context, list[Step]]


@pytest.fixture
def finished(tiny_run: Finished, tmp_path: Path) -> Finished:
    """A copy of the finished run, that a test may change."""
    path, context, _ = tiny_run
    shutil.copytree(context.out, tmp_path / "copy")
    return (path, *opened(path, tmp_path / "copy"))


def rewrite(path: Path, edit: Callable[[Any], object]) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    edit(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def one_less(counts: Any) -> None:
    counts["rows_in"] -= 1
    counts["kept"] -= 1


def lossy(job: crowd.PartJob, writer: PartWriter) -> Done:
    """Writes all verdicts, and doesn't count the first."""
    done = crowd.CROWD.phases[1].do(job, writer)
    if writer.number:
        return done
    ((source, counts),) = done.by_source.items()
    return Done({source: Counts(counts.rows_in - 1, counts.kept - 1, counts.dropped)})


def test_a_stage_that_loses_a_row_is_not_finished(finished: Finished) -> None:
    """Without a word about it in its own row of the table."""
    path, context, _ = finished
    sketches, verdicts = crowd.CROWD.phases
    table = {**crowd.TABLE, "crowd": replace(crowd.CROWD, phases=(sketches, replace(verdicts, do=lossy)))}
    context, steps = opened(path, context.out, table)
    with pytest.raises(ManifestError, match="crowd: 34 rows in, but its inputs kept 35"):
        runner.run(steps, context, Serial())
    assert not (context.out / steps[-2].folder / "manifest.json").exists()


def test_shards_of_fewer_samples_than_there_are_are_not_finished(finished: Finished) -> None:
    path, context, steps = finished
    folder = context.out / steps[-1].folder
    (folder / "manifest.json").unlink()

    def lose(record: Any) -> None:
        one_less(record["counts"])
        one_less(record["by_source"]["talks"])

    rewrite(folder / "part-00001.json", lose)
    context, steps = opened(path, context.out)
    with pytest.raises(ManifestError, match="pretokenise: 34 rows in, but its inputs kept 35"):
        runner.run(steps, context, Serial())
    assert not (folder / "manifest.json").exists()


def test_the_funnel_proves_each_source_and_not_only_all(finished: Finished) -> None:
    path, context, steps = finished
    assert funnel(steps, context).all.rows_in == 37

    def shift(found: Any) -> None:
        one_less(found["by_source"]["talks"])
        found["by_source"]["signs"]["rows_in"] += 1
        found["by_source"]["signs"]["kept"] += 1

    rewrite(context.out / steps[-1].folder / "manifest.json", shift)
    context, steps = opened(path, context.out)
    with pytest.raises(ManifestError, match="talks: ingest kept 22, pretokenise saw 21"):
        funnel(steps, context)


def test_nothing_left_to_train_on_is_said_with_every_reason(tiny_recipe: MakeRecipe) -> None:
    path = tiny_recipe(lambda mapping: mapping["data"]["pretokenise"].update(max_tokens=1))
    context, steps = opened(path)
    lost = r"ingest.no_conversation 1, ingest.image_missing 1, .*dedupe.duplicate 1, .*pretokenise.too_long 30"
    with pytest.raises(StepError, match=rf"pretokenise: no sample is left of 37 rows \({lost}"):
        runner.run(steps, context, Serial())


def stopping(recipe: MakeRecipe, name: str, share: float, finished: Finished, table: Any = STAGES) -> Finished:
    """The run with one step not finished, and a share that stops it."""
    path = recipe(lambda mapping: mapping["run"].update(stop_if={name: share}))
    return (path, *opened(path, finished[1].out, table))


# the step that stops, and of how many of its rows how many have the reason
SHARES = {
    "ingest.image_missing": ("ingest signs", 1, 14),
    "language.wrong_language": ("language", 2, 35),
    "pretokenise.too_long": ("pretokenise", 1, 35),
}


@pytest.mark.parametrize("name", SHARES)
def test_a_step_stops_above_a_share_goes_on_at_it_and_does_nothing_twice(
    name: str, finished: Finished, tiny_recipe: MakeRecipe
) -> None:
    title, found, rows = SHARES[name]
    step = next(step for step in finished[2] if step.name == title)
    manifest = finished[1].out / step.folder / "manifest.json"
    before = manifest.read_bytes()
    shutil.rmtree(manifest.parent)
    _, context, steps = stopping(tiny_recipe, name, found / rows - 1e-6, finished)
    reason = name.split(".")[1]
    with pytest.raises(StepError, match=rf"{title}: {found} of {rows} rows \(.*\) are {reason}, .* --set run.stop_if"):
        runner.run(steps, context, Serial())
    assert not manifest.exists()
    _, context, steps = stopping(tiny_recipe, name, found / rows, finished)
    assert runner.run(steps, context, watched := Watched()) == 1
    assert not watched.tasks
    assert manifest.read_bytes() == before


def test_what_stopped_can_be_looked_at(
    finished: Finished, tiny_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command that the error names; where there is none, it names the folder."""
    by_name = {step.name: step for step in finished[2]}
    for name, title in (("ingest.image_missing", "ingest signs"), ("quality.empty_answer", "quality")):
        folder = finished[1].out / by_name[title].folder
        (folder / "manifest.json").unlink()
        _, context, steps = stopping(tiny_recipe, name, 0.0, finished)
        look = "`python -m pipeline rejects RECIPE`" if title != "quality" else f"the files of {folder}"
        with pytest.raises(StepError, match=f"see {look}, mend"):
            runner.run(steps, context, Serial())
        assert list(folder.glob("*-00000.parquet"))
        if title != "quality":
            assert rejects.show(steps, context) == 2
            assert "signs/signs.jsonl#13\timage_missing" in capsys.readouterr().out
            runner.run(steps, opened(tiny_recipe(), context.out)[0], Serial())


def test_a_reason_stops_its_own_stage_and_no_other_that_has_it_too(finished: Finished, tiny_recipe: MakeRecipe) -> None:
    both: dict[str, Stage] = {
        **crowd.TABLE,
        "dedupe": replace(STAGES["dedupe"], reasons={**STAGES["dedupe"].reasons, **crowd.REASONS}),
    }
    _, context, steps = stopping(tiny_recipe, "dedupe.crowded", 0.0, finished, both)
    assert runner.run(steps, context, Serial()) == 2


def test_every_step_and_phase_at_work_ends_with_a_line(
    finished: Finished, tiny_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    path, context, steps = finished
    for folder in [context.out / step.folder for step in steps if step.name in ("ingest talks", "pretokenise")]:
        (folder / "manifest.json").unlink()
    (context.out / steps[-1].folder / "part-00002.json").unlink()
    capsys.readouterr()
    context, steps = opened(path, context.out)
    runner.run(steps, context, Serial())
    lines = capsys.readouterr().out.splitlines()
    names = ["ingest talks: slices", "ingest talks", "pretokenise: rows", "pretokenise"]
    assert [line.split("  ")[0] for line in lines] == names
    assert "2/2 files  23 in, 23 kept  " in lines[0]
    assert "4/4 parts (4 from an earlier run)  23 in, 22 kept, 1 rejected  " in lines[1]
    assert "7/7 parts  35 in, 29 kept, 6 dropped  " in lines[2]
    assert "6/6 shards (5 from an earlier run)  35 in, 29 kept, 6 dropped  " in lines[3]
    assert all(line.endswith(" s") for line in lines)


@pytest.mark.parametrize("section", [None, "off"])
def test_quality_runs_by_itself_unless_it_is_off(section: str | None, tiny_recipe: MakeRecipe) -> None:
    """It drops what is broken whatever the recipe: here the answer that says nothing."""

    def edit(mapping: dict[str, Any]) -> None:
        data = mapping["data"]
        for name in ("dedupe", "decontaminate", "benchmarks", "language", "quality"):
            del data[name]
        mapping["run"]["locations"].pop("exam")
        if section:
            data["quality"] = section

    context, steps = opened(tiny_recipe(edit))
    runner.run(steps, context, Serial())
    dropped = context.finished(steps[-1]).counts.dropped
    assert dropped == ({"pretokenise.too_long": 1} | ({} if section else {"quality.empty_answer": 1}))
