"""Sketches of benchmarks in a file of their own: the verdicts are those of the benchmarks, and no text is in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.commands import sketch
from pipeline.graph.stage import Step
from pipeline.run import runner
from pipeline.run.runner import Serial
from tests.pipeline.conftest import MakeRecipe, do, opened
from tests.pipeline.tiny_corpus import picture

QUESTION = "How many bridges does one have to cross on the shortest way from the old mill up to the castle gate?"
ANSWER = "Four of them, and five for whoever takes the path along the river, as the map on the wall of the mill shows."


@pytest.fixture
def recipe(tiny: Path, tiny_recipe: MakeRecipe, tmp_path: Path) -> Callable[..., Path]:
    """A recipe with a benchmark of a picture and one of a text, of which one sample each leaks."""
    raw = tmp_path / "raw"
    shutil.copytree(tiny, raw)
    leak = {
        "messages": [{"role": "user", "content": f"Say: {QUESTION.upper()}"}, {"role": "assistant", "content": "4"}]
    }
    with (raw / "talks" / "a.jsonl").open("a") as file:
        file.write(json.dumps(leak) + "\n")
    (raw / "quiz").mkdir()
    (raw / "quiz" / "test.jsonl").write_text(json.dumps({"question": QUESTION, "answer": ANSWER}) + "\n")

    def make(edit: Callable[[dict[str, Any]], object] = lambda mapping: None, name: str = "recipe.yaml") -> Path:
        def both(mapping: dict[str, Any]) -> None:
            mapping["data"]["benchmarks"]["quiz"] = {"format": "question_answer", "files": ["*.jsonl"]}
            for place in (*mapping["data"]["sources"], *mapping["data"]["benchmarks"]):
                mapping["run"]["locations"][place] = str(raw / place)
            edit(mapping)

        return tiny_recipe(both, name)

    return make


def sketched(path: Path, to: Path) -> int:
    """The command, in this process."""
    context, steps = opened(path)
    runner.run(sketch.needed(steps), context, Serial())
    return sketch.save(steps, context, to)


def using(mapping: dict[str, Any], *files: str) -> None:
    """Files of sketches in place of all benchmarks."""
    for name in mapping["data"].pop("benchmarks"):
        del mapping["run"]["locations"][name]
    mapping["data"]["decontaminate"] = {"sketches": list(files)}


def verdicts(path: Path) -> list[dict[str, Any]]:
    context, (step,) = do(path, None, ["hash", "ingest"])[0], judges(path)
    runner.run([step], context, Serial())
    parts = sorted((context.out / step.folder).glob("verdict-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def judges(path: Path) -> list[Step]:
    return [step for step in opened(path)[1] if step.stage.name == "decontaminate"]


def test_a_file_of_sketches_gives_the_verdicts_of_its_benchmarks(recipe: Callable[..., Path], tmp_path: Path) -> None:
    found = verdicts(recipe())
    assert [(row["reason"], row["benchmark"]) for row in found if row["reason"]] == [
        ("benchmark_question", "quiz"),
        ("benchmark_image", "exam"),
    ]
    assert sketched(recipe(), tmp_path / "both.parquet") == 2
    assert verdicts(recipe(lambda m: using(m, "both.parquet"), "sketches.yaml")) == found


def test_sketches_stand_beside_benchmarks(recipe: Callable[..., Path], tmp_path: Path) -> None:
    def half(mapping: dict[str, Any], gone: str) -> None:
        del mapping["data"]["benchmarks"][gone], mapping["run"]["locations"][gone]

    assert sketched(recipe(lambda m: half(m, "exam"), "quiz.yaml"), tmp_path / "quiz.parquet") == 1

    def beside(mapping: dict[str, Any]) -> None:
        half(mapping, "quiz")
        mapping["data"]["decontaminate"] = {"sketches": ["quiz.parquet"]}

    assert verdicts(recipe(beside, "beside.yaml")) == verdicts(recipe())


def test_the_identity_is_that_of_the_content_and_a_place_is_none_of_it(
    recipe: Callable[..., Path], tmp_path: Path
) -> None:
    sketched(recipe(), tmp_path / "a.parquet")
    shutil.copy(tmp_path / "a.parquet", tmp_path / "b.parquet")
    sketched(recipe(lambda m: m["data"]["decontaminate"].update(text=None), "bare.yaml"), tmp_path / "bare.parquet")

    def identity(name: str, **keys: Any) -> str:
        def edit(mapping: dict[str, Any]) -> None:
            using(mapping, f"{name}.parquet")
            mapping["data"]["decontaminate"].update(keys)

        path = recipe(edit, "other.yaml")
        do(path, None, ["hash"])
        return judges(path)[0].identity

    assert identity("a") == identity("b") != ""
    assert len({identity("a"), identity("a", text=None), identity("bare", text=None)}) == 3


def test_the_same_benchmarks_give_the_same_bytes(recipe: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        sketched(recipe(lambda m, n=name: m["run"].update(out=str(tmp_path / n))), tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_no_text_and_no_image_file_is_in_it(recipe: Callable[..., Path], tmp_path: Path) -> None:
    """Of every value: no word of four letters of the texts, nothing of the image's bytes; hashes, and the luminance."""
    sketched(recipe(), tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    bare = pa.Table.from_pylist(table.to_pylist(), table.schema)
    held = json.dumps(bare.drop_columns(["sample_id"]).to_pylist(), default=lambda data: data.decode("latin-1")).lower()
    said = f"{QUESTION} {ANSWER} The number of this sign is asked for".lower().replace(",", " ").replace("?", " ")
    assert not [word for word in said.split() if len(word) > 3 and word in held.replace("numbered", "")]
    assert picture(4)[40:60].decode("latin-1") not in held
    rounds = [sides for row in table["rounds"].to_pylist() for sides in row]
    assert [bool(sides["question"]) for sides in rounds] == [False, True]
    assert all(gram > 2**32 for sides in rounds if sides["question"] for gram in sides["question"]["ngrams"])


def spoiled(path: Path, how: str) -> None:
    table = pq.read_table(path)
    about = dict(table.schema.metadata)
    if how == "version":
        about[b"tessera.sketch"] = b"0"
    if how == "columns":
        table = table.drop_columns(["rounds"])
    pq.write_table(table.replace_schema_metadata({} if how == "plain" else about), path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("how", "text", "error"),
    [
        ("gone", {}, "sketches[0]: {path}: no such file; paths are relative to the recipe's folder"),
        ("cut", {}, "sketches[0]: {path}: not a readable parquet file"),
        ("plain", {}, "sketches[0]: {path}: a parquet file, but no sketch of benchmarks"),
        ("version", {}, "sketches[0]: {path}: a sketch of version 0, wanted 1"),
        ("columns", {}, "sketches[0]: {path}: a sketch of version 1, wanted 1 with its columns"),
        ("", {"ngram": 10}, "sketches[0]: {path}: a sketch with 8 words to an n-gram, and text.ngram is 10"),
    ],
)
def test_a_file_that_cannot_serve_is_one_line(
    how: str,
    text: dict[str, int],
    error: str,
    recipe: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "s.parquet"
    sketched(recipe(), path)
    path.unlink() if how == "gone" else spoiled(path, how)

    def edit(mapping: dict[str, Any]) -> None:
        using(mapping, "s.parquet")
        mapping["data"]["decontaminate"]["text"] = text

    assert main(["plan", str(recipe(edit, "other.yaml"))]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: data.decontaminate." + error.format(path=path)) and said.count("\n") == 1


@pytest.mark.parametrize(
    ("to", "edit", "error"),
    [
        ("s.csv", lambda m: None, "--to s.csv: got .csv, wanted a name that ends in .parquet"),
        ("s.parquet", lambda m: using(m, "none.parquet"), "none.parquet: no such file"),
        ("s.parquet", lambda m: (m["data"].pop("benchmarks"), m["data"].pop("decontaminate")), "run.locations.exam"),
    ],
)
def test_what_cannot_be_sketched_is_one_line(
    to: str, edit: Callable[..., object], error: str, recipe: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sketch-benchmarks", str(recipe(edit)), "--to", to]) == 2
    said = capsys.readouterr().err
    assert error in said and said.count("\n") == 1


def test_the_command_says_how_many(
    recipe: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sketched(recipe(), tmp_path / "a.parquet")  # so that nothing is left to do, and Ray isn't started
    capsys.readouterr()
    to = tmp_path / "deep" / "s.parquet"
    assert main(["sketch-benchmarks", str(recipe()), "--to", str(to)]) == 0
    assert capsys.readouterr().out == f"{to}: sketches of 2 samples of benchmarks\n"
    assert to.read_bytes() == (tmp_path / "a.parquet").read_bytes()
