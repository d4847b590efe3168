"""What `probe` proposes for unknown data loads as a recipe and reads that data; what it can't tell it says."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.recipe.load import load
from stages.sources.declaration import Source


def picture(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = picture()
INLINE = {"bytes": PNG, "path": None}
TALK = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "Red."}]
CHAT = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "Red."}]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = json.dumps(rows) if ".json" in path.suffixes else "\n".join(map(json.dumps, rows))
        path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


def tar(path: Path, members: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def proposed(path: Path, capsys: pytest.CaptureFixture[str], kept: str = "") -> Source:
    """The source that probe proposes; `kept`: what it says of the records."""
    assert main(["probe", str(path)]) == 0
    text = capsys.readouterr().out
    assert kept in text.splitlines()[0]
    out = path.parent / "proposed.yaml"
    out.write_text(text, encoding="utf-8")
    (source,) = load(out).data.sources.values()
    return source


@pytest.mark.parametrize(
    ("row", "format", "columns"),
    [
        ({"texts": [{"user": "q", "assistant": "a"}], "images": [INLINE], "relevance_min": 4}, "texts", {}),
        ({"対話": [{"assistant": "a", "user": "q"}], "写真": [INLINE]}, "texts", {"texts": "対話", "images": "写真"}),
        ({"id": "x", "conversations": TALK, "image": INLINE}, "conversations", {}),
        (
            {"turns": TALK, "picture": INLINE, "lang": "en"},
            "conversations",
            {"conversations": "turns", "image": "picture", "language": "lang"},
        ),
        ({"messages": CHAT, "images": [INLINE]}, "messages", {}),
        ({"conversation": CHAT}, "messages", {"messages": "conversation"}),
        (
            {"画像": INLINE, "質問": "q", "回答": "a", "ライセンス": "cc0"},
            "question_answer",
            {"image": "画像", "question": "質問", "answer": "回答", "licence": "ライセンス"},
        ),
        (
            {"inputs": "q", "targets": "a", "language_code": "jpn"},
            "question_answer",
            {"question": "inputs", "answer": "targets", "language": "language_code"},
        ),
        ({"jpg": PNG, "alt": "A red box."}, "caption", {"image": "jpg", "caption": "alt"}),
        ({"url": "https://a.example", "text": "Once upon a time. " * 99}, "text", {}),
        ({"text": "Once upon a time.", "license": "cc0", "identifier": "1"}, "text", {"licence": "license"}),
    ],
)
def test_each_shape_is_told_by_its_values(
    row: dict[str, Any], format: str, columns: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        written(tmp_path / "set" / f"sub{number}" / "train.parquet", [row] * 5)
    source = proposed(tmp_path / "set", capsys, "15 of 15 records that were read become samples")
    assert (source.format, source.columns, source.files) == (format, columns, ("*.parquet",))
    assert proposed(tmp_path / "set" / "sub0" / "train.parquet", capsys).files == ("train.parquet",)


@pytest.mark.parametrize("place", [".", "pictures", "a/b", "zip", "tar", "two"])
def test_images_are_found_where_they_lie(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    written(folder / "a.json", [{"image": f"x/{n}.png", "conversations": TALK} for n in range(4)])
    written(folder / "b.jsonl.gz", [{"image": f"x/{n}.png", "conversations": TALK} for n in range(4)])
    members = {f"x/{n}.png": picture(n) for n in range(4)}
    if place == "zip":
        with zipfile.ZipFile(folder / "i.zip", "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    elif place == "tar":
        tar(folder / "i.tar", members)
    elif place == "two":
        tar(folder / "i.tar", {"x/0.png": PNG, "x/1.png": PNG})
        tar(folder / "j.tar", {"x/2.png": PNG, "x/3.png": PNG})
    else:
        for name, data in members.items():
            (folder / place / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / place / name).write_bytes(data)
    source = proposed(folder, capsys, "8 of 8")
    wanted = {"zip": "i.zip", "tar": "i.tar", "two": ("i.tar", "j.tar")}.get(place, place)
    assert (source.images, source.files) == (wanted, ("*.json", "*.jsonl.gz"))


@pytest.mark.parametrize("key", ["image", "image_url", "path"])
def test_images_in_blocks_are_found_where_they_lie(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = {"type": "image", key: "x/0.png"}
    turns = [{"role": "user", "content": [block, {"type": "text", "text": "What?"}]}, CHAT[1]]
    written(tmp_path / "set" / "a.jsonl", [{"messages": turns}])
    (tmp_path / "set" / "pictures" / "x").mkdir(parents=True)
    (tmp_path / "set" / "pictures" / "x" / "0.png").write_bytes(PNG)
    source = proposed(tmp_path / "set", capsys, "1 of 1")
    assert (source.format, source.images) == ("messages", "pictures")


@pytest.mark.parametrize(
    ("row", "urls", "columns"),
    [
        ({"image_url": "https://a.example/1", "caption": "x", "transcripts": ["y"]}, {"column": "image_url"}, "image"),
        ({"img": "https://a.example/1", "text": "x", "page": "https://b.example"}, {"column": "img"}, "image"),
        (
            {"image_url": "https://a.example/1", "question": "x", "answer": "y", "image_sha256": "ab" * 32},
            {"column": "image_url", "sha256": "image_sha256"},
            "image",
        ),
        ({"images": ["https://a.example/1.jpg"], "messages": CHAT}, None, ""),
    ],
)
def test_images_by_address_are_proposed_to_be_fetched(
    row: dict[str, Any], urls: dict[str, str] | None, columns: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "set" / "a.parquet", [row, row])
    if urls is None:  # several in a row: not what `urls` can say
        assert proposed(tmp_path / "set", capsys, "0 of 2 records").urls is None
        return
    source = proposed(tmp_path / "set", capsys, "2 of 2 records that were read are sound")
    assert source.urls is not None
    assert {k: v for k, v in (("column", source.urls.column), ("sha256", source.urls.sha256)) if v} == urls
    assert source.column_map[columns] == urls["column"]


def test_broken_rows_do_not_hide_the_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"image_url": f"https://a.example/{n}", "caption": "x"} for n in range(19)]
    written(tmp_path / "set" / "a.parquet", [*rows, {"image_url": "nonsense", "caption": "x"}])
    assert proposed(tmp_path / "set", capsys, "16 of 16").urls is not None
    talk = {"texts": [{"user": "q", "assistant": "a"}]}
    empty = {**talk, "images": [{"bytes": b"", "path": "zero.jpg"}]}
    written(tmp_path / "fine" / "a.parquet", [*[{**talk, "images": [INLINE]}] * 9, empty])
    assert main(["probe", str(tmp_path / "fine")]) == 0
    assert "nowhere" not in capsys.readouterr().out


def test_images_beside_a_file_that_is_named_alone_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "set" / "a.json", [{"image": "x.png", "conversations": TALK}])
    written(tmp_path / "set" / "b.json", [{"image": "x.png", "conversations": TALK}])
    (tmp_path / "set" / "pictures").mkdir()
    (tmp_path / "set" / "pictures" / "x.png").write_bytes(PNG)
    source = proposed(tmp_path / "set" / "a.json", capsys, "1 of 1")
    assert (source.files, source.images) == (("a.json",), "pictures")


def test_columns_that_rate_the_row_become_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"jpg": PNG, "alt": "A red box.", "clip_similarity": 0.3, "aesthetic_score": 5, "width": 20}
    written(tmp_path / "set" / "a.parquet", [row, row])
    assert proposed(tmp_path / "set", capsys, "2 of 2").scores == ("clip_similarity", "aesthetic_score")


def test_images_that_are_nowhere_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "set" / "a.json", [{"image": "x.png", "conversations": TALK}])
    assert main(["probe", str(tmp_path / "set")]) == 0
    out = capsys.readouterr().out
    assert "0 of 1 records" in out and "image_missing 1" in out and "images: x.png is nowhere below the folder" in out


def test_a_webdataset_is_told_from_a_tar_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    tar(tmp_path / "set" / "0.tar", {"1.png": PNG, "1.txt": b"Red.", "2.png": PNG, "2.txt": b"Red."})
    source = proposed(tmp_path / "set", capsys, "2 of 2")
    assert (source.format, source.files) == ("webdataset", ("0.tar",))


def test_files_of_another_shape_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "set" / "a.json", [{"inputs": "q", "targets": "a"}])
    written(tmp_path / "set" / "b.json", [{"inputs": "q", "targets": "a"}])
    written(tmp_path / "set" / "people.json", [{"age": 5, "\x1b[31mname": "x"}])
    (tmp_path / "set" / "broken.parquet").write_bytes(b"<html>")
    source = proposed(tmp_path / "set", capsys, "2 of 2")
    assert source.files == ("a.json", "b.json")
    main(["probe", str(tmp_path / "set")])
    out = capsys.readouterr().out
    assert "# not named: people.json" in out and "# not named: broken.parquet" in out and "\x1b" not in out


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q", "score": 5}, "question (str), score (int)"),
        ({"left": INLINE, "right": INLINE, "caption": "x"}, "left (images), right (images)"),
        ({"a": TALK, "b": TALK}, "can't tell which column is which"),
        ({"image": INLINE, "label": 3}, "image (images), label (int)"),
        ({"URL": "https://a.example/1", "TEXT": "A red box."}, "TEXT (str), URL (str)"),
    ],
)
def test_what_cannot_be_told_is_said_in_one_line(
    row: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "a.parquet", [row])
    assert main(["probe", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"instruction": "Translate.", "input": "猫", "output": "cat"}, {}),
        ({"instruction": "Translate 猫.", "input": "", "output": "cat", "history": [["a", "b"]]}, {}),
        (
            {"instruction": "What?", "context": "A cat.", "response": "cat", "category": "qa"},
            {"output": "response", "input": "context"},
        ),
        ({"instruction": "a", "output": "b", "system_prompt": "c"}, {"system": "system_prompt"}),
    ],
)
def test_instructions_are_alpaca(
    row: dict[str, Any], columns: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "data" / "a.jsonl", [row] * 5)
    source = proposed(tmp_path / "data", capsys, "5 of 5 records")
    assert source.format == "alpaca" and source.columns == columns


def test_a_time_that_python_cannot_hold_hides_no_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = pa.array([2**62] * 3, pa.timestamp("us"))
    table = pa.table({"question": ["q"] * 3, "answer": ["a"] * 3, "seen": late, "all_seen": [[t] for t in late]})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "a.parquet")
    assert proposed(tmp_path / "data", capsys, "3 of 3 records").format == "question_answer"


def test_what_the_proposal_leaves_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "a.jsonl", [{"messages": CHAT, "id": 7, "tools": []}])
    assert main(["probe", str(tmp_path)]) == 0
    assert "# nobody reads: id\n" in capsys.readouterr().out


def test_a_place_without_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("x")
    for path, message in (
        (tmp_path, "no .parquet, .json, .jsonl or .tar in it, but .csv; convert tables to .parquet or .jsonl"),
        (Path("s3:/lake"), "probe looks at folders of this machine"),
        (tmp_path / "x", "no such"),
    ):
        assert main(["probe", str(path)]) == 2
        assert message in capsys.readouterr().err
