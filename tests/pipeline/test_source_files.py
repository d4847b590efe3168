"""The declarations in configs/sources, and how a recipe takes them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import main
from pipeline.quickstart import __main__ as quickstart
from pipeline.recipe.bundled import find
from pipeline.recipe.load import load
from schemas import strict, yaml_file
from stages.download import role
from stages.sources.declaration import Source
from tests.pipeline.conftest import ROOT, MakeRecipe, opened

FILES = sorted((ROOT / "configs" / "sources").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_declaration_is_valid_and_explained(path: Path) -> None:
    source = strict.build(Source, yaml_file.read(path))
    assert source.reading.columns and source.licence
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_there_is_one_for_each_dataset_we_name() -> None:
    assert {path.stem for path in FILES} >= {
        "finevision",
        "jagle",
        "llava_pretrain",
        "llava_instruct_mix665k",
        "llava_next",
        "llava_onevision",
        "llava_onevision_15",
        "cauldron",
        "cambrian",
        "pangea",
        "pixmo_cap",
        "aya",
        "sharegpt",
        "common_corpus",
        "openai_messages",
    }


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("finevision", "sharegpt4v(coco)/train-00000-of-00002.parquet", "records"),
        ("llava_onevision", "aokvqa(cauldron,llava_format)/train-00000-of-00001.parquet", "records"),
        ("llava_next", "llava_next_raw_format/llava_next_raw_format_processed.json", None),
        ("llava_pretrain", "blip_laion_cc_sbu_558k_meta.json", None),
        ("llava_pretrain", "images.zip", "images"),
        ("aya", "demographics/train-00000-of-00001.parquet", None),
        ("cambrian", "allava.tar", "images"),
        ("cambrian", "jsons/Cambrian7M_withsystemprompt.jsonl", None),
        ("pangea", "cultural/laion.tar", "images"),
        ("common_corpus", "common_corpus_10/subset_1.parquet", "records"),
    ],
)
def test_patterns_name_the_files_they_are_meant_for(name: str, file: str, kind: str | None) -> None:
    source = strict.build(Source, yaml_file.read(ROOT / "configs" / "sources" / f"{name}.yaml"))
    assert role(file, source) == kind


def test_the_programs_own_files_are_found_from_any_folder_and_never_hide_one_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "configs/sources/aya.yaml"
    monkeypatch.chdir(tmp_path)
    assert yaml_file.read(find(name)) == yaml_file.read(ROOT / name)
    assert find("sources/aya.yaml") == Path("sources/aya.yaml")
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    own.write_text("format: texts")
    assert yaml_file.read(find(name)) == {"format": "texts"}


def test_the_quickstart_finds_its_files_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(quickstart.training_config(tmp_path).read_text(encoding="utf-8"))
    assert config["data"]["shards"] == str(tmp_path) and config["model"]
    assert set(load(quickstart.RECIPE).data.sources) == {"fine", "japanese", "llava"}


def extending(mapping: dict[str, Any], path: Path, **keys: Any) -> None:
    mapping["data"]["sources"]["fine"] = {"extends": str(path), **keys}


def test_local_keys_win_and_the_identity_is_that_of_the_keys(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump({"format": "texts", "files": ["*.nothing"], "licence": "cc0-1.0"}))
    plain = opened(make_recipe(name="plain.yaml"))[1]
    context, steps = opened(make_recipe(lambda m: extending(m, base, files=["*.parquet"]), "extends.yaml"))
    assert context.recipe.data.sources["fine"].files == ("*.parquet",)
    assert [step.identity for step in steps] == [step.identity for step in plain]


def test_extends_is_relative_to_the_recipe_wherever_one_stands(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "base.yaml").write_text("{format: texts, files: ['*.right']}")
    path = make_recipe(lambda m: extending(m, Path("sets/base.yaml")))
    other = tmp_path / "other"
    (other / "sets").mkdir(parents=True)
    (other / "sets" / "base.yaml").write_text("{format: texts, files: ['*.wrong']}")
    for folder, given in ((other, path), (other, Path("..", path.name)), (tmp_path, Path(path.name))):
        monkeypatch.chdir(folder)
        assert load(given).data.sources["fine"].files == ("*.right",)


def test_a_path_may_begin_at_home(make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.yaml").write_text("{format: texts, files: ['*.parquet']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    path = make_recipe(lambda m: extending(m, Path("~/base.yaml")))
    assert load(path).data.sources["fine"].files == ("*.parquet",)


def test_a_benchmark_may_extend_too(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("{format: texts, files: ['*.parquet'], licence: cc0-1.0}")
    path = make_recipe(lambda m: m["data"]["benchmarks"].update(held_out={"extends": "base.yaml", "licence": "own"}))
    assert load(path).data.benchmarks["held_out"] == Source("texts", ("*.parquet",), licence="own")


def test_each_declaration_can_be_extended_as_the_readme_says(tmp_path: Path) -> None:
    """From a recipe in configs/: `extends: sources/NAME.yaml`."""
    copied = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", copied)
    for file in FILES:
        mapping = yaml.safe_load((copied / "llava_folder.yaml").read_text(encoding="utf-8"))
        mapping["data"]["sources"]["llava"] = {"extends": f"sources/{file.name}", "hub": None}
        (copied / "mine.yaml").write_text(yaml.safe_dump(mapping))
        assert load(copied / "mine.yaml").data.sources["llava"].files


def test_a_copy_of_one_s_own_stands_in_for_the_hub(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump({"format": "texts", "files": ["*.parquet"], "hub": {"dataset": "owner/name"}}))
    plain = opened(make_recipe(lambda m: m["data"]["sources"]["fine"].pop("licence"), name="plain.yaml"))[1]
    steps = opened(make_recipe(lambda m: extending(m, base, hub=None), "own.yaml"))[1]
    assert [step.identity for step in steps] == [step.identity for step in plain]


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        (None, {}, "no such file; paths are relative to the folder of the file that names it"),
        ("[1]", {}, "base.yaml: got list, wanted a mapping of keys to values"),
        ("extends: other.yaml", {}, "extends another file; one level"),
        ("format: texts\nfile: [x]", {}, "data.sources.fine.file: unknown key; did you mean 'files'"),
        ("format: texts\nfiles: ['*.parquet']", {"colums": {}}, "data.sources.fine.colums: unknown key"),
        ("format: texts\nformat: texts", {}, "base.yaml line 2: the key 'format' is given twice"),
        ("x: 1", {"extends": 5}, "data.sources.fine.extends: got 5"),
    ],
)
def test_what_cannot_be_extended_is_one_line(
    text: str | None,
    keys: dict[str, Any],
    message: str,
    make_recipe: MakeRecipe,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = tmp_path / "base.yaml"
    if text is not None:
        base.write_text(text)
    assert main(["plan", str(make_recipe(lambda m: extending(m, base, **keys)))]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
