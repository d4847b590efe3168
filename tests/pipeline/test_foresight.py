"""What would stop a run hours later is told before its first step, by `plan` and by `run`, in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.graph.content import Content
from pipeline.recipe.load import load
from tests.pipeline.conftest import ROOT, Corpus, MakeRecipe, run

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def template(folder: Path, text: str | None) -> None:
    place = folder / "chat_template.jinja"
    assert place.is_file()
    place.unlink() if text is None else place.write_text(text + place.read_text(encoding="utf-8"), encoding="utf-8")


def dropout(folder: Path) -> None:
    place = folder / "tokenizer.json"
    state = json.loads(place.read_text(encoding="utf-8"))
    state["model"]["dropout"] = 0.5
    place.write_text(json.dumps(state), encoding="utf-8")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no template": (lambda f: template(f, None), "no chat template; add"),
    "junk": (lambda f: (f / "tokenizer.json").write_text("{junk"), "can't be read as a tokenizer"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "can't be read as a tokenizer"),
    "odd settings": (lambda f: (f / "tokenizer_config.json").write_text("[]"), "can't be read as a tokenizer"),
    "no utf-8": (lambda f: (f / "tokenizer.json").write_bytes(b"\xff\xfe{}"), "can't be read as a tokenizer"),
    "failing template": (lambda f: template(f, "{{ 1 // 0 }}"), "ZeroDivisionError"),
    "endless template": (lambda f: template(f, LOOP), "does not come to an end"),
    "chance": (dropout, "leaves out merges at random"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_tokenizer_that_cannot_be_used(
    name: str, corpus: Corpus, make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(corpus.places["tokenizer"], folder)
    spoil, message = BAD[name]
    spoil(folder)
    recipe = make_recipe(lambda m: m["run"]["locations"].update(tokenizer=str(folder)))
    assert main(["plan", str(recipe)]) == 2
    said = capsys.readouterr()
    assert "never run" in said.out  # the plan itself is shown
    assert said.err.startswith("error: run.locations.tokenizer: ") and message in said.err
    assert said.err.count("\n") == 1 and len(said.err) < 600


def test_a_run_ends_before_its_first_step(
    corpus: Corpus, make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def misspelt(mapping: dict[str, Any]) -> None:
        mapping["data"]["quality"]["min_scores"] = {"relevence_min": 2}

    recipe = make_recipe(misspelt)
    assert main(["run", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert "data.quality.min_scores.relevence_min: no source rates its rows under that name" in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("0*"))
    assert main(["plan", str(recipe)]) == 2


def test_a_rating_that_a_source_may_give_is_let_through(make_recipe: MakeRecipe) -> None:
    assert main(["plan", str(make_recipe())]) == 0


def loaded(recipe: Path) -> str:
    script = f"from pipeline.cli import main; import sys; main(['plan', {str(recipe)!r}]); "
    script += "print(sorted({'transformers', 'tokenizers', 'torch'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stderr.strip()


def test_the_driver_loads_no_tokenizer_to_know(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe()
    assert loaded(recipe) == "[]"
    run(recipe)
    assert loaded(recipe) == "[]"


def test_every_file_that_says_how_a_tokenizer_is_read_names_what_is_made_with_it(
    corpus: Corpus, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(corpus.places["tokenizer"], folder)
    recipe = load(str(make_recipe(lambda m: m["run"]["locations"].update(tokenizer=str(folder)))), None, None, [])
    found = [Content(recipe).tokenizer]
    for name in ("config.json", "chat_template.jinja", "tokenizer_config.json"):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(" ")
        found.append(Content(recipe).tokenizer)
    (folder / "README.md").write_text("of no matter")
    assert len(set(found)) == 4 and Content(recipe).tokenizer == found[-1]


@pytest.mark.parametrize(
    ("files", "pattern", "error"),
    [
        (
            ["exam.jsonl", "data/train-0.jsonl"],
            "*.jsonl",
            "'*.jsonl' takes data/train-0.jsonl along, which looks like a",
        ),
        (["exam.jsonl", "coco/train2017.jsonl"], "*.jsonl", "looks like a train split; name the files of the split"),
        (["data/train-0.jsonl"], "data/train-*.jsonl", None),
        (["exam.jsonl", "strain/trainees.jsonl"], "*.jsonl", None),
    ],
)
def test_a_benchmark_that_takes_its_train_split_along(
    files: list[str],
    pattern: str,
    error: str | None,
    tiny: Path,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A train split is what everybody trains on; a split that is called so and evaluated is named by the pattern."""
    for file in files:
        (tmp_path / "exam" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny / "exam" / "exam.jsonl", tmp_path / "exam" / file)

    def edit(mapping: dict[str, Any]) -> None:
        mapping["data"]["benchmarks"]["exam"]["files"] = [pattern]
        mapping["run"]["locations"]["exam"] = str(tmp_path / "exam")

    assert main(["plan", str(tiny_recipe(edit))]) == (2 if error else 0)
    said = capsys.readouterr().err
    assert said.startswith("error: data.benchmarks.exam.files: ") and error in said if error else not said
