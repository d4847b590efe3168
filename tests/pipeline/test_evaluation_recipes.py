"""Recipes of benchmarks alone: they are ingested, and nothing else; what the folder of one says is all that evaluation
needs; and decontamination reads the very same folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.commands import plan, verify
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.recipe.load import load
from schemas.manifest import ManifestError
from schemas.strict import RecipeError
from tests.pipeline.conftest import Corpus, MakeRecipe, opened, run, write_yaml
from tests.pipeline.recipe_sources import SMALL, inline, parquet

PROMPT = "{question}\n{choices}\nOnly the letter."
ROWS = {
    "closed": [
        {"image": inline(SMALL, 1), "question": "How many?", "options": "['one', 'two']", "answer": "(B)", "kind": "a"},
        {"image": inline(SMALL, 2), "question": "Which?", "options": "['one', 'two']", "answer": "C", "kind": "b"},
        {"image": None, "question": "Why?", "options": "[]", "answer": "because", "kind": None},
    ],
    "open": [{"image": inline(SMALL, 3), "question": "Who?", "answers": ["he", "she"]}],
}
DECLARED: dict[str, dict[str, Any]] = {
    "closed": {
        "format": "question_answer",
        "files": ["*.parquet"],
        "columns": {"choices": "options", "category": "kind"},
        "licence": "cc0",
        "scoring": {"metric": "multiple_choice", "prompt": PROMPT, "max_new_tokens": 8},
    },
    "open": {
        "format": "question_answer",
        "files": ["*.parquet"],
        "columns": {"answer": "answers"},
        "scoring": {"metric": "vqa_accuracy"},
    },
}
Make = Callable[..., Path]


@pytest.fixture
def alone(tmp_path: Path) -> Make:
    """A recipe of the two benchmarks and of nothing else."""
    for name, rows in ROWS.items():
        parquet(tmp_path / name / "test-0.parquet", rows)

    def make(edit: Callable[[dict[str, Any]], object] = lambda mapping: None) -> Path:
        mapping: dict[str, Any] = {
            "data": {"benchmarks": json.loads(json.dumps(DECLARED))},
            "run": {"out": str(tmp_path / "out"), "locations": {name: str(tmp_path / name) for name in ROWS}},
        }
        edit(mapping)
        return write_yaml(tmp_path / "alone.yaml", mapping)

    return make


def ingested(steps: list[Step], name: str) -> Step:
    (found,) = [step for step in steps if step.stage.makes == "samples" and step.label == name]
    return found


def test_a_recipe_of_benchmarks_ingests_them_and_their_folders_say_how_they_are_scored(
    alone: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    path = alone()
    assert main(["run", str(path), "--set", "run.workers=1"]) == 0
    said = capsys.readouterr().out
    context, steps = opened(path)
    assert [step.name for step in steps] == ["hash closed", "hash open", "ingest closed", "ingest open"]
    folder = context.out / ingested(steps, "closed").folder
    assert f"closed: {folder}" in said and "tokens" not in said
    manifest = context.finished(ingested(steps, "closed"))
    assert manifest.facts["benchmark"] == {
        "name": "closed",
        "scoring": {"metric": "multiple_choice", "prompt": PROMPT, "max_new_tokens": 8},
        "licence": "cc0",
    }
    assert (manifest.counts.rows_in, manifest.counts.kept, manifest.counts.rejected) == (3, 2, {"malformed_record": 1})
    rows = pq.read_table(*folder.glob("part-*.parquet")).to_pylist()
    assert [(row["references"], row["choices"], row["category"]) for row in rows] == [
        (["B"], ["one", "two"], "a"),
        (["because"], None, None),
    ]
    (row,) = pq.read_table(*(context.out / ingested(steps, "open").folder).glob("part-*.parquet")).to_pylist()
    assert (row["references"], row["choices"]) == (["he", "she"], None)
    for step in steps:
        verify.check(context.out / step.folder)


def test_decontamination_reads_the_folder_that_evaluation_reads(
    alone: Make, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    context, steps = run(alone())

    def edit(mapping: dict[str, Any]) -> None:
        del mapping["data"]["ingest"]  # of parts of another size
        mapping["data"]["benchmarks"] |= DECLARED
        mapping["run"]["locations"] |= {name: str(tmp_path / name) for name in ROWS}

    _, whole = opened(tiny_recipe(edit), context.out)
    for name in ROWS:
        assert ingested(whole, name).identity == ingested(steps, name).identity
        assert plan.state(ingested(whole, name), context) == ("done", "")
    (judge,) = [step for step in whole if step.benchmarks]
    assert {step.label for step in judge.benchmarks} == {"exam", *ROWS}


def test_another_prompt_rewrites_the_manifest_and_nothing_that_was_compared_with_the_benchmark(
    alone: Make, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    alone()

    def recipe(prompt: str) -> Path:
        def edit(mapping: dict[str, Any]) -> None:
            mapping["data"]["benchmarks"] |= json.loads(json.dumps(DECLARED))
            mapping["data"]["benchmarks"]["closed"]["scoring"]["prompt"] = prompt
            mapping["run"]["locations"] |= {name: str(tmp_path / name) for name in ROWS}

        return tiny_recipe(edit)

    context, steps = run(recipe(PROMPT))
    folder = context.out / ingested(steps, "closed").folder
    before = {path: path.stat().st_mtime_ns for path in context.out.rglob("*") if path.is_file()}
    said = (folder / "manifest.json").read_bytes()

    changed, again = opened(recipe("Other: {question} {choices}"))
    to_do = {step.name: plan.state(step, changed) for step in again if plan.state(step, changed)[0] != "done"}
    assert to_do == {"ingest closed": ("to do", "its scoring has changed")}
    changed, again = run(recipe("Other: {question} {choices}"))
    after = {path: path.stat().st_mtime_ns for path in context.out.rglob("*") if path.is_file()}
    moved = {path for path in after if after[path] != before.get(path)}
    assert moved == {folder / "manifest.json", folder / "run.json"} and after.keys() == before.keys()
    fact = changed.finished(ingested(again, "closed")).facts["benchmark"]
    assert fact["scoring"]["prompt"] == "Other: {question} {choices}"
    verify.check(folder)

    run(recipe(PROMPT))
    assert (folder / "manifest.json").read_bytes() == said


def test_the_quickstarts_questions_are_scored_by_their_kind(
    finished_run: tuple[Path, Context, list[Step]], corpus: Corpus
) -> None:
    _, context, steps = finished_run
    for name, split in (("held_out", "test"), ("validation", "validation")):
        lines = (corpus.folder / "raw" / "benchmark" / split / "questions.jsonl").read_text("utf-8").splitlines()
        step = ingested(steps, name)
        rows = pq.read_table(*(context.out / step.folder).glob("part-*.parquet")).to_pylist()
        wanted = [json.loads(line) for line in lines]
        assert [(row["references"], row["category"]) for row in rows] == [([w["answer"]], w["kind"]) for w in wanted]
        assert context.finished(step).facts["benchmark"]["scoring"]["metric"] == "exact_match"


def test_verify_finds_a_manifest_that_tells_no_scoring(alone: Make) -> None:
    context, steps = run(alone())
    folder = context.out / ingested(steps, "open").folder
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["facts"]["benchmark"]["scoring"]["metric"]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ManifestError):
        verify.check(folder)


def test_a_run_that_is_killed_and_one_that_is_not_leave_the_same_bytes(alone: Make, tmp_path: Path) -> None:
    context, steps = run(alone())
    step = ingested(steps, "closed")
    whole = {p.name: p.read_bytes() for p in (context.out / step.folder).iterdir() if p.name != "run.json"}
    (context.out / step.folder / "manifest.json").unlink()
    context, _ = run(alone())
    assert {p.name: p.read_bytes() for p in (context.out / step.folder).iterdir() if p.name != "run.json"} == whole
    shutil.rmtree(context.out / step.folder)
    run(alone())
    assert {p.name: p.read_bytes() for p in (context.out / step.folder).iterdir() if p.name != "run.json"} == whole


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda m: m["data"].pop("benchmarks"), "sources is empty; name at least one, or benchmarks alone"),
        (lambda m: m["data"].update(dedupe={}), "dedupe: of no use to a recipe of benchmarks alone"),
        (lambda m: m["data"].update(decontaminate={}), "decontaminate: of no use to a recipe of benchmarks alone"),
        (lambda m: m["data"].update(quality="off"), "quality: of no use to a recipe of benchmarks alone"),
        (
            lambda m: m["data"].update(sources={"open": m["data"]["benchmarks"].pop("open")}),
            "sources.open.scoring: only benchmarks are scored",
        ),
    ],
)
def test_a_recipe_of_benchmarks_says_nothing_of_sources(alone: Make, edit: Any, said: str) -> None:
    def changed(mapping: dict[str, Any]) -> None:
        edit(mapping)
        places = mapping["run"]["locations"]
        mapping["run"]["locations"] = places if mapping["data"].get("benchmarks") else {}

    with pytest.raises(RecipeError, match=said.replace("(", r"\(")):
        load(alone(changed))


@pytest.mark.parametrize("command", ["report", "publish", "show", "sketch-benchmarks", "census", "whatif"])
def test_a_command_about_shards_says_that_there_are_none(
    alone: Make, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {
        "publish": ["--to", str(tmp_path / "given")],
        "show": ["open/test-0.parquet#0"],
        "sketch-benchmarks": ["--to", str(tmp_path / "s.parquet")],
        "whatif": ["--set", "data.quality.min_image_side=3"],
    }
    assert main([command, str(alone()), *more.get(command, [])]) == 2
    said = capsys.readouterr().err
    assert said == f"error: {command}: the recipe has benchmarks alone, and this is about sources and shards\n"


@pytest.mark.slow
def test_plan_rejects_and_single_stages_work_on_benchmarks(alone: Make, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(alone())
    assert main(["plan", path]) == 0 and main(["hash", path]) == 0 and main(["ingest", path]) == 0
    capsys.readouterr()
    assert main(["rejects", path]) == 0
    assert "is none of 2 choices" in capsys.readouterr().out.replace("\n", " ")
    assert main(["pretokenise", path]) == 2
