"""Links and odd names in a source's folder: what is read is listed, and what is left out is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.graph.folder import listed
from pipeline.run import runner
from schemas.strict import RecipeError
from stages.sources import file_names
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import do, opened, write_yaml

MakeSource = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, tiny: Path) -> MakeSource:
    """A recipe on what lies in `raw`."""
    (tmp_path / "raw").mkdir()

    def made(**declared: Any) -> Path:
        mapping = tiny_corpus.recipe(tiny, tmp_path / "out")
        source = {"format": "caption", "images": "images", "files": ["*.jsonl"], "prompt": "What?"} | declared
        mapping["data"] = {"sources": {"mine": source}, "pretokenise": mapping["data"]["pretokenise"]}
        mapping["run"]["locations"] = {"mine": str(tmp_path / "raw"), "tokenizer": str(tiny / "tokenizer")}
        return write_yaml(tmp_path / "recipe.yaml", mapping)

    return made


def records(path: Path, *images: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"image": i, "caption": f"This is {i}."}) + "\n" for i in images))


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny_corpus.picture(seed))


def ingested(recipe: Path) -> tuple[str, dict[str, str | None]]:
    """The identity of ingest; sample -> the reason to reject it."""
    context, steps = do(recipe, None, ("hash", "ingest"))
    folder = context.out / steps[-1].folder
    tables = [pq.read_table(p) for kind in ("part", "rejected") for p in sorted(folder.glob(f"{kind}-*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    return steps[-1].identity, {row["sample_id"]: row.get("reason") for row in rows}


def test_a_linked_folder_inside_the_source_is_listed_and_known_to_the_plan(
    make: MakeSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    picture(raw / "store" / "deep" / "1.png", 1)
    records(raw / "texts" / "a.jsonl", "deep/1.png")
    (raw / "images").symlink_to("store")
    (raw / "more").symlink_to(raw / "texts")
    recipe = make(files=["more/*.jsonl"])
    first, found = ingested(recipe)
    assert found == {"mine/more/a.jsonl#0": None}
    picture(raw / "store" / "deep" / "1.png", 2)
    capsys.readouterr()
    assert main(["plan", str(recipe)]) == 0
    shown = capsys.readouterr()
    assert "changed: listing" in shown.out and shown.err == ""
    assert ingested(recipe)[0] != first


def test_loops_end_and_are_named(make: MakeSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    picture(raw / "images" / "1.png", 1)
    records(raw / "a.jsonl", "1.png", "again/1.png", "up/images/1.png")
    (raw / "images" / "again").symlink_to(".")
    (raw / "images" / "up").symlink_to("..")
    (raw / "x").mkdir()
    (raw / "y").mkdir()
    (raw / "x" / "to_y").symlink_to("../y")
    (raw / "y" / "to_x").symlink_to("../x")
    (raw / "self").symlink_to("self")
    found, links = listed(raw, tmp_path / "out", "mine")
    assert sorted(file.file for file in found) == ["a.jsonl", "images/1.png"]
    loops, nowhere = sorted(links.notes())
    assert loops.startswith("links back to a folder that holds them, which end there (4): images/again -> ")
    assert nowhere == "links that lead nowhere, left out (1): self"
    _, rows = ingested(make())
    assert list(rows.values()) == [None, "image_missing", "image_missing"]
    assert (
        "note: run.locations.mine: links back to a folder that holds them, which end there (4)"
        in capsys.readouterr().err
    )


def test_links_out_are_left_out_by_name_and_followed_if_the_recipe_says_so(
    make: MakeSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, store = tmp_path / "raw", tmp_path / "store"
    picture(store / "1.png", 1)
    picture(raw / "images" / "0.png", 0)
    records(raw / "a.jsonl", "0.png", "linked/1.png", "one.png")
    records(store / "b.jsonl", "0.png")
    (raw / "images" / "linked").symlink_to(store)
    (raw / "images" / "one.png").symlink_to(store / "1.png")
    (raw / "b.jsonl").symlink_to(store / "b.jsonl")
    _, rows = ingested(make())
    assert rows == {"mine/a.jsonl#0": None, "mine/a.jsonl#1": "image_missing", "mine/a.jsonl#2": "image_missing"}
    error = capsys.readouterr().err
    assert f"b.jsonl -> {store / 'b.jsonl'}" in error and "follow_links: true in the source follows them" in error
    _, rows = ingested(make(follow_links=True))
    assert len(rows) == 5 and set(rows.values()) == {None}
    assert f"images/linked -> {store}" in capsys.readouterr().err


def test_how_a_file_came_there_is_no_part_of_what_is_made(make: MakeSource, tmp_path: Path) -> None:
    raw, store = tmp_path / "raw", tmp_path / "store"
    picture(store / "1.png", 1)
    records(raw / "a.jsonl", "1.png")
    (raw / "images").symlink_to(store)
    linked, _ = ingested(make(follow_links=True))
    (raw / "images").unlink()
    shutil.copytree(store, raw / "images")
    assert ingested(make())[0] == linked


def test_a_folder_of_nothing_but_links_out_says_what_to_write(
    make: MakeSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the cache of the Hub's own tools has them: snapshots of links to blobs."""
    records(tmp_path / "blobs" / "0123", "1.png")
    (tmp_path / "raw" / "a.jsonl").symlink_to(tmp_path / "blobs" / "0123")
    picture(tmp_path / "raw" / "images" / "1.png", 1)
    assert main(["plan", str(make())]) == 2
    assert "follow_links: true in the source follows them" in capsys.readouterr().err.splitlines()[-1]
    assert ingested(make(follow_links=True))[1] == {"mine/a.jsonl#0": None}


def test_a_linked_folder_of_images_that_leads_out_is_an_error(
    make: MakeSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "store" / "1.png", 1)
    records(tmp_path / "raw" / "a.jsonl", "1.png")
    (tmp_path / "raw" / "images").symlink_to(tmp_path / "store")
    assert main(["plan", str(make())]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: data.sources.mine.images: images") and "follow_links: true" in error
    assert ingested(make(follow_links=True))[1] == {"mine/a.jsonl#0": None}


def test_links_that_give_a_folder_names_without_end_are_refused(tmp_path: Path) -> None:
    """Each of 40 folders has two links to the next one: 2**40 names for the last."""
    for number in range(40):
        (tmp_path / f"{number:02d}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"{number:02d}" / name).symlink_to(f"../{number + 1:02d}")
    (tmp_path / "40").mkdir()
    with pytest.raises(RecipeError, match=r"run\.locations\.mine: .*more than 32 names"):
        listed(tmp_path, tmp_path / "out", "mine")


def test_a_link_to_what_this_program_writes_is_no_data(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    records(raw / "out" / "02-ingest" / "x.jsonl", "1.png")
    records(raw / "a.jsonl", "1.png")
    (raw / "linked").symlink_to("out/02-ingest")
    found, _ = listed(raw, raw / "out", "mine")
    assert [file.file for file in found] == ["a.jsonl"]


def test_data_that_lie_in_the_output_folder_are_listed_with_their_subfolders(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    picture(raw / "images" / "1.png", 1)
    for folder in (raw, raw / "deep", raw / "02-ingest-mine-0123abcd", raw / "03-notes"):
        records(folder / "x.jsonl", "1.png")
    (raw / "02-ingest-mine-0123abcd" / "manifest.json").write_text("{}")
    wanted = ["03-notes/x.jsonl", "deep/x.jsonl", "images/1.png", "x.jsonl"]
    for out in (tmp_path, raw, tmp_path / "elsewhere"):
        found, links = listed(raw, out, "mine")
        assert sorted(file.file for file in found) == wanted
        said = ["folders that this program wrote, left out (1): 02-ingest-mine-0123abcd"]
        assert list(links.notes()) == ([] if out == raw else said)


def test_what_came_after_the_listing_is_not_read(make: MakeSource, tmp_path: Path) -> None:
    """What came after the listing is no part of the source, whatever the records name."""
    raw = tmp_path / "raw"
    picture(raw / "images" / "0.png", 0)
    records(raw / "a.jsonl", "0.png", "late.png")
    context, steps = opened(make())
    picture(raw / "images" / "late.png", 5)
    runner.run([step for step in steps if step.stage.makes in ("files", "samples")], context, runner.Serial())
    (rejects,) = (context.out / steps[1].folder).glob("rejected-*.parquet")
    assert pq.read_table(rejects)["reason"].to_pylist() == ["image_missing"]


ODD = [b"caf\xe9", b"\xff\xfe", "日本".encode(), b"a\\xe9", b"line\nbreak", b"tab\t\x1b[31m", b"\\x5c"]


@pytest.mark.parametrize("name", ODD)
def test_files_of_any_name_are_read_and_shown_escaped(
    name: bytes, make: MakeSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = os.fsencode(tmp_path / "raw")
    os.mkdir(raw + b"/" + name)  # noqa: PTH102
    with open(raw + b"/" + name + b"/" + name + b".jsonl", "wb") as stream:  # noqa: PTH123
        stream.write(b'{"image": "1.png", "caption": "One."}\n{"image": "2.png", "caption": "Two."}\n')
    picture(tmp_path / "raw" / "images" / "1.png", 1)
    with open(raw + b"/images/" + name + b".png", "wb") as stream:  # noqa: PTH123
        stream.write(b"not asked for")
    recipe = make(files=["*.jsonl"])
    _, rows = ingested(recipe)
    assert list(rows.values()) == [None, "image_missing"]
    for command in ("plan", "rejects"):
        assert main([command, str(recipe)]) == 0
    assert main(["show", str(recipe), next(iter(rows))]) == 0
    assert main(["probe", str(tmp_path / "raw")]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


def test_an_image_whose_name_is_no_utf_8_is_a_reject_where_a_record_names_it(make: MakeSource, tmp_path: Path) -> None:
    (tmp_path / "raw" / "images").mkdir()
    (tmp_path / "raw" / "images" / "x\udce9.png").write_bytes(tiny_corpus.picture(1))
    (tmp_path / "raw" / "a.jsonl").write_text('{"image": "x\\udce9.png", "caption": "One."}\n')
    assert list(ingested(make())[1].values()) in ([None], ["image_missing"], ["malformed_record"])


@given(st.binary(min_size=1, max_size=20).filter(lambda data: b"/" not in data and b"\0" not in data))
def test_every_name_is_text_that_leads_back_to_it(name: bytes) -> None:
    text = os.fsdecode(name)
    shown = file_names.listed(text)
    assert shown.encode("utf-8") and file_names.on_disk(shown) == text


@given(st.lists(st.sampled_from([r"\x", "5c", "e9", "\udce9", "\\", "x", "é"]), max_size=8).map("".join))
def test_no_two_names_are_listed_as_one(name: str) -> None:
    assert file_names.on_disk(file_names.listed(name)) == name
