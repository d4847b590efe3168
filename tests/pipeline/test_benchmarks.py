"""The declarations in configs/benchmarks: each reads its benchmark in the layout that is known, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.recipe.load import load
from schemas import strict, yaml_file
from stages.sources.declaration import Source
from tests.pipeline.benchmark_layouts import BENCHMARKS, REFERENCES
from tests.pipeline.conftest import ROOT, MakeRecipe, do, opened

FILES = sorted((ROOT / "configs" / "benchmarks").glob("*.yaml"))


def test_there_is_one_for_each_benchmark_and_each_is_tried() -> None:
    assert {path.stem for path in FILES} == set(BENCHMARKS) == set(REFERENCES) and len(FILES) == 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_declaration_is_valid_and_explained(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    source = strict.build(Source, yaml_file.read(path))
    assert text.startswith("# ") and "# Hub: " in text and "Revision: " in text and source.licence
    assert source.scoring is not None
    in_japanese = "Japanese evaluation" in text.replace("\n#", "")
    assert ("答えてください" in source.scoring.prompt) == in_japanese
    assert source.hub is None or f"# Hub: {source.hub.dataset}" in text


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_declaration_reads_its_layout_and_leaves_other_splits(
    name: str, tiny_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = BENCHMARKS[name](tmp_path / "bench")

    def edit(mapping: dict[str, Any]) -> None:
        extends = {"extends": f"configs/benchmarks/{name}.yaml", "hub": None}
        mapping["data"]["benchmarks"] = {name: extends}
        del mapping["run"]["locations"]["exam"]
        mapping["run"]["locations"][name] = str(tmp_path / "bench")

    path = tiny_recipe(edit)
    context, steps = do(path, None, ["hash", "ingest"])
    (step,) = [step for step in steps if step.stage.makes == "samples" and step.label == name]
    (judge,) = [step for step in opened(path)[1] if step.benchmarks]
    judge.stage.foresee(judge, context)
    rows = pq.read_table(*(context.out / step.folder).glob("part-*.parquet")).to_pylist()
    assert [(*_texts(row), len(row["image_info"])) for row in rows] == said
    told = [(row["references"], row["choices"], row["category"]) for row in rows]
    assert told == REFERENCES[name]
    assert context.finished(step).counts.rows_in == len(said)
    assert context.finished(step).facts["benchmark"]["name"] == name
    noted = capsys.readouterr()
    assert "not read" not in noted.out + noted.err


def _texts(row: dict[str, Any]) -> list[str]:
    """What each turn says."""
    return ["".join(block["text"] or "" for block in message["content"]) for message in row["messages"]]


def test_the_license_of_a_row_goes_before_that_of_the_declaration(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    BENCHMARKS["cvqa_ja"](tmp_path / "bench")
    source = {"extends": "configs/benchmarks/cvqa_ja.yaml", "hub": None}

    def edit(mapping: dict[str, Any]) -> None:
        mapping["data"]["benchmarks"]["cvqa_ja"] = source
        mapping["run"]["locations"]["cvqa_ja"] = str(tmp_path / "bench")

    context, steps = do(tiny_recipe(edit), None, ["hash", "ingest"])
    (step,) = [step for step in steps if step.stage.makes == "samples" and step.label == "cvqa_ja"]
    (row,) = pq.read_table(*(context.out / step.folder).glob("part-*.parquet")).to_pylist()
    assert row["licence"] == "CC BY 4.0"


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "evaluation").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_of_published_evaluations_are_of_declared_benchmarks(path: Path) -> None:
    names = yaml_file.read(path)["data"]["benchmarks"]
    places = [f"run.locations.{name}=/x" for name in ("mmmb", "mmbench") if name in names]
    found = load(path, sets=places).data.benchmarks
    declared = {each.stem: strict.build(Source, yaml_file.read(each)) for each in FILES}
    assert found == {name: declared[name] for name in names}
    assert len(names) == {"llm-jp-4-vl": 20, "jina-vlm": 18}[path.stem]
