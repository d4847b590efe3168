"""Recipes and command lines that are wrong: one line, the key named, exit 2, no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.recipe.load import load
from schemas import yaml_file
from schemas.strict import RecipeError
from tests.pipeline.conftest import ROOT, MakeRecipe, write_json

Edit = Callable[[dict[str, Any]], object]

WRONG: dict[str, tuple[Edit, str]] = {
    "typo in a section": (
        lambda m: m["data"].update(dedup=m["data"].pop("dedupe")),
        "data.dedup: unknown key; did you mean 'dedupe'",
    ),
    "typo in a parameter": (
        lambda m: m["data"]["language"].update(kepe=["en"]),
        "data.language.kepe: unknown key; did you mean 'keep'",
    ),
    "type": (lambda m: m["data"]["ingest"].update(rows_per_part="many"), "data.ingest.rows_per_part: got 'many'"),
    "bool as number": (lambda m: m["data"]["ingest"].update(rows_per_part=True), "wanted a whole number"),
    "format": (lambda m: m["data"]["sources"]["fine"].update(format="txts"), "did you mean 'text"),
    "column": (lambda m: m["data"]["sources"]["japanese"].update(columns={"questoin": "q"}), "did you mean 'question'"),
    "out of range": (
        lambda m: m["data"]["dedupe"]["match"].update(radius=65),
        "data.dedupe.match: radius must lie in 0..64",
    ),
    "missing section": (
        lambda m: m["data"].pop("pretokenise"),
        "data: pretokenise: missing; it says what the shards are to be",
    ),
    "empty section": (lambda m: m["data"].update(dedupe=None), "data.dedupe: empty; write dedupe: {}"),
    "tile size": (
        lambda m: m["data"]["pretokenise"]["tiles"].update(tile=65),
        "data.pretokenise.tiles: tile 65 is not a multiple",
    ),
    "no location": (lambda m: m["run"]["locations"].pop("fine"), "run.locations.fine: missing"),
    "stray location": (lambda m: m["run"]["locations"].update(fien="/x"), "did you mean 'fine'"),
    "missing folder": (
        lambda m: m["run"]["locations"].update(fine="/nowhere"),
        "run.locations.fine: /nowhere: no such folder",
    ),
    "no file matches": (
        lambda m: m["data"]["sources"]["fine"].update(files=["*.csv"]),
        "data.sources.fine.files: nothing below",
    ),
    "one of several patterns matches nothing": (
        lambda m: m["data"]["sources"]["fine"].update(files=["*.parquet", "more/*.jsonl"]),
        "matches 'more/*.jsonl'; it has",
    ),
    "pattern escapes": (lambda m: m["data"]["sources"]["fine"].update(files=["../*"]), "leaves the source's folder"),
    "benchmarks unused": (lambda m: m["data"].pop("decontaminate"), "decontaminate: missing"),
    "tokenizer": (lambda m: m["run"]["locations"].update(tokenizer="/nowhere"), "run.locations.tokenizer"),
    "workers": (lambda m: m["run"].update(workers=0), "run: workers: got 0"),
    "language": (lambda m: m["data"]["language"].update(keep=["english"]), "'english' is no language code"),
    "country for a language": (
        lambda m: m["data"]["language"].update(keep=["en", "jp"]),
        "data.language.keep: 'jp' is no language of the model; did you mean 'ja'?",
    ),
    "rules for no source": (
        lambda m: m["data"]["language"].update(sources={"fien": {"mixed": "drop"}}),
        "language.sources.fien: unknown key; did you mean 'fine'?",
    ),
    "three letters": (lambda m: m["data"]["language"].update(keep=["deu"]), "did you mean 'de'?"),
    "no language": (lambda m: m["data"]["language"].update(keep=["xx"]), "'xx' is no language of the model"),
    "quality": (lambda m: m["data"].update(quality="of"), "did you mean 'off'?"),
    "stop_if": (lambda m: m["run"].update(stop_if={"ingest.image_mising": 0.5}), "did you mean 'ingest.image_missing'"),
    "share": (lambda m: m["run"].update(stop_if={"ingest.image_missing": 5}), "wanted a share from 0 to 1"),
    "name": (lambda m: m["data"]["sources"].update({"A b": m["data"]["sources"]["fine"]}), "'A b' can't name a source"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_is_one_line_and_exit_2(
    case: str, make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, message = WRONG[case]
    assert main(["plan", str(make_recipe(edit))]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn", "x.yaml"], "invalid choice: 'runn'"),
        (["run"], "required: recipe"),
        (["run", "/nowhere.yaml"], "/nowhere.yaml: no such file"),
        (["plan", "RECIPE", "--set", "data.dedupe=1"], "--set data.dedupe=1: wanted run.KEY=VALUE"),
        (["plan", "RECIPE", "--set", "run.worker=1"], "did you mean 'workers'"),
        (["plan", "RECIPE", "--set", "run"], "--set run: wanted run.KEY=VALUE"),
        (["plan", "RECIPE", "--set", "run=1"], "--set run=1: wanted run.KEY=VALUE"),
        (["plan", "RECIPE", "--set", "run.workers"], "--set run.workers: wanted run.KEY=VALUE"),
        (["plan", "RECIPE", "--set", "run.out.x=1"], "--set run.out.x=1: out is not a mapping"),
        (["plan", "RECIPE", "--set", "run.out=/data/my #1"], "what follows # would be a comment"),
        (["plan", "RECIPE", "--set", "run.workers=four"], "run.workers: got 'four' (str), wanted a whole number"),
        (["plan", "RECIPE", "--set", "run.stop_if={a: 1, a: 2}"], "line 1: the key 'a' is given twice"),
        (["show", "RECIPE", "fine/x#0"], "nothing is ingested yet"),
        (["report", "RECIPE"], "is not finished"),
        (["dedupe", "RECIPE"], "run `python -m pipeline ingest RECIPE` first"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(
    arguments: list[str], message: str, make_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(make_recipe()) if a == "RECIPE" else a for a in arguments]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_yaml_faults_name_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data:\n  sources: {}\n  sources: {}\n", encoding="utf-8")
    assert main(["plan", str(path)]) == 2
    assert "line 3" in capsys.readouterr().err


def test_the_shipped_recipes_are_valid(tmp_path: Path, corpus: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "llava" / "a.json", [])
    places = [
        "--set",
        f"run.locations.llava={tmp_path / 'llava'}",
        "--set",
        f"run.locations.tokenizer={corpus.places['tokenizer']}",
    ]
    assert main(["plan", "configs/llava_folder.yaml", "--out", str(tmp_path / "out"), *places]) == 0
    assert "never run" in capsys.readouterr().out.replace("\n", " ")


def test_a_job_refuses_a_folder_that_dies_with_it(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({}))
    assert main(["plan", str(make_recipe()), "--out", "relative"]) == 2
    assert "run.out: 'relative' is relative" in capsys.readouterr().err


def test_a_reason_of_stop_if_has_a_dot_of_its_own(make_recipe: MakeRecipe) -> None:
    loaded = load(make_recipe(), sets=["run.stop_if.ingest.image_missing=0.05"])
    assert loaded.run.stop_if == {"ingest.image_missing": 0.05}


def test_the_command_line_is_read_like_the_file(make_recipe: MakeRecipe) -> None:
    path = make_recipe(lambda m: m["run"].update(stop_if={"ingest.image_missing": 0.5}, workers=3))
    sets = ["run.stop_if.ingest.image_truncated=1e-3", "run.patience.first_wait=2", "run.out=no", "run.workers=1"]
    run = load(path, None, "host:6379", sets).run
    assert run.stop_if == {"ingest.image_missing": 0.5, "ingest.image_truncated": 0.001}
    assert (run.patience.first_wait, run.out, run.workers, run.address) == (2.0, "no", 1, "host:6379")
    assert load(path, "given", None, ["run.out=set", "run.address='a #1'"]).run.out == "given"
    assert load(path, sets=["run.address='a #1'"]).run.address == "a #1"
    assert load(path, sets=["run.address=a#1"]).run.address == "a#1"


@pytest.mark.parametrize("run", [None, {}])
def test_an_empty_run_is_filled_by_the_command_line(run: Any, make_recipe: MakeRecipe) -> None:
    """Nothing of `run` is identity, so that it may be said elsewhere; a section of `data` may not be empty."""
    path = make_recipe(lambda m: m.update(run=run))
    places = {"fine", "japanese", "llava", "held_out", "validation", "tokenizer"}
    loaded = load(path, "here", sets=[f"run.locations.{name}=/x" for name in places])
    assert (loaded.run.out, set(loaded.run.locations)) == ("here", places)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(run=[1]), "run: got [1] (list), wanted a mapping"),
        (lambda m: m.update(data=[1]), "data: got [1] (list), wanted a mapping"),
        (lambda m: m.pop("data"), "data: missing"),
        (lambda m: m["data"].update(sources=[1]), "data.sources: got [1] (list), wanted a mapping"),
        (lambda m: m["data"]["sources"].update(fine=[1]), "data.sources.fine: got [1] (list), wanted a mapping"),
        (lambda m: m["data"]["benchmarks"].update(held_out="x"), "data.benchmarks.held_out: got 'x' (str)"),
        (lambda m: m.update(model={}), "is a training config; give it to `python -m train fit`"),
    ],
)
def test_what_is_no_section_is_refused(edit: Edit, message: str, make_recipe: MakeRecipe) -> None:
    with pytest.raises(RecipeError) as caught:
        load(make_recipe(edit), sets=["run.workers=1"])
    assert message in str(caught.value)


RECIPES = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if "optimiser" not in yaml_file.read(path)]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_shipped_recipes_can_be_read_from_any_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(path).data.sources
