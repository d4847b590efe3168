"""Images that are nowhere are told in one line before the rows are read, with the reason and a way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.sources.archives.image_files import Place, places
from stages.sources.declaration import Source
from stages.sources.image_check import named, problem
from stages.sources.records.slices import slices

CHAT = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "Red."}]


def told(root: Path, names: list[str], images: tuple[str, ...] = (".",)) -> str:
    files = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    return problem(names, places(root, images, [(file,) for file in files]), files)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pictures" / "coco").mkdir(parents=True)
    (tmp_path / "pictures" / "coco" / "1.jpg").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "images", "message"),
    [
        ("coco/1.jpg", (".",), "images that were looked for is there, e.g. 'coco/1.jpg'; write `images: pictures`"),
        ("pictures/coco/1.jpg", ("pictures",), "; write `images: .`"),
        ("1.jpg", ("pictures",), "; write `images: pictures/coco`"),
        ("train/1.jpg", (".",), "; a file of that name is 'pictures/coco/1.jpg'"),
        ("2.jpg", (".",), "none of 1 images that were looked for is there, e.g. '2.jpg'"),
        ("1.jpg", (), "and the source has no `images`; say where they lie; write `images: pictures/coco`"),
        ("/data/coco/1.jpg", (".",), "name absolute paths, e.g. '/data/coco/1.jpg', which are never followed"),
        ("C:\\data\\1.jpg", (".",), "the records name absolute paths"),
        ("https://a.example/1.jpg", (".",), "the records name addresses, e.g. 'https://a.example/1.jpg'; write `urls:"),
        ("\0", (".",), "none of 1 images"),
        ("x" * 5000, (".",), "none of 1 images"),
    ],
)
def test_why_no_image_is_found(root: Path, name: str, images: tuple[str, ...], message: str) -> None:
    found = told(root, [name], images)
    assert message in found and len(found) < 300 and "\n" not in found


def test_one_image_that_is_there_is_enough(root: Path) -> None:
    assert told(root, ["coco/2.jpg", "coco/1.jpg"], ("pictures",)) == ""
    assert told(root, ["/coco/1.jpg", "coco/1.jpg"], ("pictures",)) == ""
    assert told(root, []) == ""


def test_archives_are_not_opened(root: Path) -> None:
    assert problem(["1.jpg"], [Place((str(root / "a.tar"),))], []) == ""


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> tuple[Path, Any]:
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return path, slices(path, name, 64)


def test_names_come_from_all_over_the_files_and_not_from_bytes(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"messages": CHAT, "images": [f"{n}.jpg"]} for n in range(2000)]
    rows[0] = {"messages": "none"}
    names = named(Source("messages", ("*",)), [written(tmp_path, "a.jsonl", rows)])
    assert 64 <= len(names) <= 300 and "1.jpg" in names and any(int(name[:-4]) > 1800 for name in names)
    inline = [{"messages": CHAT, "images": [{"bytes": b"x", "path": "a.jpg"}]}]
    assert named(Source("messages", ("*",)), [written(tmp_path, "b.parquet", inline)]) == []
    by_name = [{"messages": CHAT, "images": [{"bytes": None, "path": "a.jpg"}]}]
    assert named(Source("messages", ("*",)), [written(tmp_path, "c.parquet", by_name)]) == ["a.jpg"]
    assert named(Source("text", ("*",)), [written(tmp_path, "d.jsonl", [{"text": "x", "image": "a.jpg"}])]) == []
