"""`verify` proves a manifest by its own folder and names what was edited; `--sources` reads the sources again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import MakeRecipe, do, run, write_yaml

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def out(tiny_run: tuple[Path, Context, list[Step]], tmp_path: Path) -> Path:
    """A copy of a finished output folder."""
    shutil.copytree(tiny_run[1].out, tmp_path / "out")
    return tmp_path / "out"


def of(out: Path, stage: str) -> Path:
    return next(iter(sorted(out.glob(f"[0-9][0-9]-{stage}*"))))


def edit(path: Path, change: Edit) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found, indent=2), encoding="utf-8")


def fault(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that `verify` ends with."""
    capsys.readouterr()
    assert main(["verify", *map(str, arguments)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")
    return error


def drop(name: str) -> Edit:
    return lambda m: m["files"].remove(next(f for f in m["files"] if f["name"] == name))


# stage, what is edited in its manifest, what is said
EDITED: dict[str, tuple[str, Edit, str]] = {
    "vocab_size": ("pretokenise", lambda m: m["facts"].update(vocab_size=7), "facts.vocab_size is 7, its files give "),
    "vocab_size as text": ("pretokenise", lambda m: m["facts"].update(vocab_size="7"), "facts.vocab_size"),
    "image token": ("pretokenise", lambda m: m["facts"].update(image_token_id=3), "facts.image_token_id is 3"),
    "no facts": ("pretokenise", lambda m: m.update(facts={}), "facts.tiles is 'missing'"),
    "facts of another shape": ("pretokenise", lambda m: m.update(facts={"tiles": 5, "tokens": []}), "facts.tiles is 5"),
    "the name of an input": (
        "ingest-talks",
        lambda m: m.update(inputs={f"x{name}": identity for name, identity in m["inputs"].items()}),
        "was edited or damaged since it was written",
    ),
    "half a character": (
        "dedupe",
        lambda m: m.update(inputs={f"\ud800{n}": i for n, i in m["inputs"].items()}),
        "edited",
    ),
    "a fact more": ("pretokenise", lambda m: m["facts"].update(extra=1), "facts.extra is 1, its files give"),
    "true for one": ("pretokenise", lambda m: m["facts"]["tiles"].update(thumbnail=1), "facts.tiles"),
    "parameters": (
        "pretokenise",
        lambda m: m["parameters"].update(max_tokens=9),
        "parameters and inputs make the ident",
    ),
    "parameters of a filter": ("language", lambda m: m["parameters"].update(keep=["fr"]), "parameters and inputs make"),
    "version": (
        "ingest",
        lambda m: m.update(version=m["version"] + 1),
        "version, parameters and inputs make",
    ),
    "stage": ("quality", lambda m: m.update(stage="dedupe"), "version, parameters and inputs make"),
    "identity": ("dedupe", lambda m: m.update(identity="0" * 64), "identity: the folder is named by"),
    "end of the identity": ("dedupe", lambda m: m.update(identity=m["identity"][:60] + "0000"), "make the identity"),
    "input": ("quality", lambda m: m["inputs"].update(dict.fromkeys(m["inputs"], "1" * 64)), "identity: the input 02-"),
    "an input less": ("quality", lambda m: m["inputs"].pop(next(iter(m["inputs"]))), "make the identity"),
    "benchmark": ("decontaminate", lambda m: m["benchmarks"].clear(), "make the identity"),
    "inputs in another order": (
        "quality",
        lambda m: m.update(inputs=dict(reversed(m["inputs"].items()))),
        "parameters and inputs make the identity",
    ),
    "a file of a part": (
        "ingest-signs",
        drop("part-00001.parquet"),
        "does not name part-00001.parquet, which",
    ),
    "a file of the step": ("pretokenise", drop("index.parquet"), "does not name index.parquet, which lies beside it"),
    "a file of the tokenizer": (
        "pretokenise",
        drop("tokenizer/tokenizer.json"),
        "does not name tokenizer/tokenizer.json",
    ),
    "rows of a file": (
        "pretokenise",
        lambda m: next(f for f in m["files"] if f["name"] == "index.parquet").update(rows=3),
        "index.parquet has 3 rows in it, and 29 in truth",
    ),
    "turns": ("quality", lambda m: m["facts"]["turns"]["talks"].update(kept=1), "facts.turns is"),
    "turns of nobody": ("quality", lambda m: m["facts"].clear(), "facts.turns is 'missing'"),
    "turn ratings": (
        "ingest",
        lambda m: m["facts"].update(turn_scores=["x_ratings"]),
        "facts.turn_scores is ['x_ratings']",
    ),
    "ratings": ("ingest", lambda m: m["facts"].update(scores=["relevance_min"]), "facts.scores is ['relevance_min']"),
    "cells of ingest": ("ingest", lambda m: m["facts"]["cells"][0].update(rows=77), "facts.cells is [{"),
    "cells of a filter": ("dedupe", lambda m: m["facts"]["cells"][0].update(kept=1), "facts.cells is [{"),
    "cells of the shards": ("pretokenise", lambda m: m["facts"]["cells"].pop(), "facts.cells is [{"),
    "content": ("hash", lambda m: m["facts"].update(content="0" * 64), "facts.content"),
    "counts of a source": (
        "language",
        lambda m: m["by_source"].update(other=m["by_source"].pop("talks")),
        "by_source.talks is None, the records of its parts say",
    ),
}


@pytest.mark.parametrize("case", EDITED)
def test_what_was_edited_in_a_manifest_is_named(case: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage, change, message = EDITED[case]
    edit(of(out, stage) / "manifest.json", change)
    assert message in fault(capsys, of(out, stage))
    assert message in fault(capsys, out)


def test_every_folder_of_a_run_is_sound(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(out)]) == 0
    assert capsys.readouterr().out.count(": sound.") == len(list(out.glob("*/manifest.json"))) > 8


GARBAGE = ["", "{", "[]", "null", "5", '"x"', "[" * 100_000, '{"a": ' * 50_000, "\x00", "{}"]


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("name", ["manifest.json", "part-00000.json"])
def test_a_record_of_ours_that_is_no_record_is_one_line(
    name: str, text: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = of(out, "ingest-talks") / name
    path.write_text(text)
    assert str(path) in fault(capsys, of(out, "ingest-talks"))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(number=1),
        lambda r: r.update(identity="0" * 64),
        lambda r: r.update(facts=[]),
        lambda r: r.update(files={}),
        lambda r: r["counts"].update(kept=-1),
        lambda r: r["files"][0].update(sha256="0" * 64),
        lambda r: r["by_source"].clear(),
    ],
    ids=range(7),
)
def test_a_part_s_record_that_was_edited_is_named(change: Edit, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = of(out, "ingest-talks")
    edit(folder / "part-00000.json", change)
    error = fault(capsys, folder)
    assert "part-00000" in error or "by_source.talks" in error or "the record of part 0" in error


def test_a_lost_record_is_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = of(out, "ingest-talks")
    (folder / "part-00001.json").unlink()
    assert "part-00001.json: missing" in fault(capsys, folder)


@pytest.mark.parametrize("text", [*GARBAGE, '{"a@b": [5]}', '{"a@b": [["x", "y", "z"]]}', '{"a@b": 1}', '{"a": {}}'])
def test_a_memory_of_listings_of_another_shape_is_no_memory(
    text: str, tiny_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "listings.json").write_text(text)
    assert main(["plan", str(tiny_recipe())]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
def test_a_damaged_run_json_or_record_stops_no_run(text: str, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    do(recipe, None, ("hash", "ingest"))
    folder = of(tmp_path / "out", "ingest-talks")
    (folder / "manifest.json").unlink()
    for name in ("run.json", "part-00000.json"):
        (folder / name).write_text(text)
    do(recipe, None, ("hash", "ingest"))
    assert main(["verify", str(folder)]) == 0


def test_a_record_under_another_part_s_name_is_no_record(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    do(recipe, None, ("hash", "ingest"))
    folder = of(tmp_path / "out", "ingest-talks")
    before = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").unlink()
    shutil.copy(folder / "part-00000.json", folder / "part-00001.json")
    do(recipe, None, ("hash", "ingest"))
    assert (folder / "manifest.json").read_bytes() == before


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A finished run on data of its own: the recipe, the data."""
    raw = tmp_path / "raw"
    tiny_corpus.write(raw)
    recipe = write_yaml(tmp_path / "recipe.yaml", tiny_corpus.recipe(raw, tmp_path / "out"))
    run(recipe)
    return recipe, raw


@pytest.mark.parametrize("name", ["talks/a.jsonl", "signs/7.png"])
def test_a_source_file_edited_in_place_is_found_by_hashing_it_again(
    own: tuple[Path, Path], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, path = tmp_path / "out", own[1] / name
    assert main(["verify", str(out), "--sources"]) == 0
    assert "files, " in (said := capsys.readouterr().out) and said.count("are those that were hashed") == 3
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert main(["verify", str(out)]) == 0
    assert f"{path}: its bytes are not those that were hashed" in fault(capsys, out, "--sources")
    path.unlink()
    assert f"{path}: can't be read (No such file or directory)" in fault(capsys, out, "--sources")


def test_of_a_source_that_changed_only_its_newest_listing_counts(
    own: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (own[1] / "signs" / "7.png").write_bytes(tiny_corpus.picture(99))
    assert "signs/7.png: its bytes" in fault(capsys, out, "--sources")
    run(own[0])
    assert len(list(out.glob("01-hash-signs-*"))) == 2
    assert main(["verify", str(out), "--sources"]) == 0


def test_sources_of_folders_that_read_none_are_a_mistake(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(of(out, "quality")), "--sources"]) == 2
    assert "none of these folders" in capsys.readouterr().err
    (of(out, "hash") / "run.json").write_text("{}")
    assert "does not say where the source lies" in fault(capsys, out, "--sources")
