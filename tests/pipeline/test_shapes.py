"""Every shape of raw data through the whole pipeline, from files on disk to shards."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.cli import main
from schemas.manifest import read
from schemas.strict import RecipeError
from tests.pipeline.conftest import MakeRecipe, run


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def shapes(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Source name -> its declaration; the data lies in tmp_path/<name>."""
    folder = {name: tmp_path / name for name in ("wds", "documents", "chats", "captions")}
    for place in folder.values():
        place.mkdir()
    members = {f"{n}.png": picture(n) for n in range(9)} | {f"{n}.txt": b"Red." for n in range(9)}
    tar(folder["wds"] / "0.tar", {name: members[name] for name in sorted(members)})
    lines = "\n".join(json.dumps({"body": f"Once upon a time {n}"}) for n in range(10))
    (folder["documents"] / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    said = [{"role": "user", "content": "<image>Which colour?"}, {"role": "assistant", "content": "Red."}]
    chats = [{"messages": said, "images": [f"{n}.png"]} for n in range(6)]
    (folder["chats"] / "c.json").write_text(json.dumps(chats))
    tar(folder["chats"] / "one.tar", {f"{n}.png": picture(n) for n in range(2)})
    with zipfile.ZipFile(folder["chats"] / "two.zip", "w") as archive:
        for n in range(2, 5):
            archive.writestr(f"{n}.png", picture(n))
    rows = [{"image": f"{n}.png", "alt": "Red.", "clip": 0.5} for n in range(3)]
    (folder["captions"] / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for n in range(3):
        (folder["captions"] / f"{n}.png").write_bytes(picture(n))
    return {
        "wds": {"format": "webdataset", "files": ["*.tar"], "prompt": "Which colour?"},
        "documents": {"format": "text", "files": ["*.jsonl.gz"], "columns": {"text": "body"}},
        "chats": {"format": "messages", "files": ["*.json"], "images": ["one.tar", "*.zip"]},
        "captions": {
            "format": "caption",
            "files": ["*.jsonl"],
            "images": ".",
            "columns": {"caption": "alt"},
            "scores": ["clip"],
        },
    }


def edit(mapping: dict[str, Any], shapes: dict[str, dict[str, Any]], folder: Path) -> None:
    tokenizer = mapping["run"]["locations"]["tokenizer"]
    data = mapping["data"]
    mapping["data"] = {"sources": shapes, "ingest": {"rows_per_part": 4}, "pretokenise": data["pretokenise"]}
    mapping["run"]["locations"] = {"tokenizer": tokenizer} | {name: str(folder / name) for name in shapes}


def test_every_shape_becomes_shards(make_recipe: MakeRecipe, shapes: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    context, steps = run(make_recipe(lambda m: edit(m, shapes, tmp_path)))
    manifest = read(context.out / steps[-1].folder)
    assert {name: counts.kept for name, counts in manifest.by_source.items()} == {
        "wds": 9,
        "documents": 10,
        "chats": 5,
        "captions": 3,
    }
    assert manifest.counts.rows_in == manifest.counts.kept == 27
    (chats,) = [step for step in steps if step.name == "ingest chats"]
    assert read(context.out / chats.folder).counts.rejected == {"image_missing": 1}


def test_a_typo_in_a_column_map_stops_the_run_in_one_line(
    make_recipe: MakeRecipe, shapes: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    shapes["captions"]["columns"] = {"caption": "altt"}
    recipe = make_recipe(lambda m: edit(m, {"captions": shapes["captions"]}, tmp_path))
    with pytest.raises(RecipeError, match="no column 'altt' in its files; did you mean 'alt'"):
        run(recipe)


def test_places_of_images_are_checked_before_anything_runs(
    make_recipe: MakeRecipe,
    shapes: dict[str, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for images, message in ((["one.tar", "three.zip"], "no such folder or archive"), ("*.json", "neither a folder")):
        shapes["chats"]["images"] = images
        recipe = make_recipe(lambda m: edit(m, {"chats": shapes["chats"]}, tmp_path))
        assert main(["plan", str(recipe)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and "data.sources.chats.images" in error


def test_images_that_are_all_elsewhere_end_the_run_in_one_line(
    make_recipe: MakeRecipe,
    shapes: dict[str, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Many are an error; of a few it is said, and their rows are rejects."""
    place = tmp_path / "captions"
    (place / "pictures").mkdir()
    rows = [{"image": f"{n}.png", "alt": "Red.", "clip": 0.5} for n in range(20)]
    for n in range(20):
        (place / "pictures" / f"{n}.png").write_bytes(picture(n))
    for n in range(3):
        (place / f"{n}.png").unlink()
    (place / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = make_recipe(lambda m: edit(m, {"captions": shapes["captions"]}, tmp_path))
    with pytest.raises(RecipeError, match=r"captions\.images: none of 20 images .*; write `images: pictures`"):
        run(recipe)
    lines = [json.dumps({"image": "/data/1.png", "alt": "Red.", "clip": 0.5})] * 3
    inline = "data:image/png;base64," + base64.b64encode(picture(1)).decode()
    lines.append(json.dumps({"image": inline, "alt": "Red.", "clip": 0.5}))
    (place / "c.jsonl").write_text("\n".join(lines))
    run(recipe)
    said = capsys.readouterr()
    assert "note: data.sources.captions.images: the records name absolute paths, e.g. '/data/1.png'" in said.err
    assert "; 3 rows name images that are not there: is `images` right?" in said.out
