"""A column that the recipe names and the data doesn't have is an error before any row is rejected for it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.strict import RecipeError
from stages.sources.column_check import check
from stages.sources.declaration import Source
from stages.sources.records.slices import slices


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".tar"):
        with tarfile.open(path, "w") as archive:
            for number, row in enumerate(rows):
                info = tarfile.TarInfo(f"{number}.json")
                data = json.dumps(row).encode()
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    else:
        path.write_text(json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows)))
    return path


def checked(source: Source, *paths: Path) -> None:
    check("src", source, [(path, slices(path, path.name, 10)) for path in paths])


@pytest.mark.parametrize("name", ["a.parquet", "a.json", "a.jsonl"])
def test_a_typo_in_the_map_names_the_near_column(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, [{"質問": "q", "回答": "a", "extra": 1}] * 30)
    checked(Source("question_answer", ("*",), columns={"question": "質問", "answer": "回答"}), path)
    with pytest.raises(RecipeError, match=r"data\.sources\.src\.columns\.answer: no column '回荅'.*extra, 回答, 質問"):
        checked(Source("question_answer", ("*",), columns={"question": "質問", "answer": "回荅"}), path)
    with pytest.raises(RecipeError, match=r"scores\[0\]: no column 'extr' .*did you mean 'extra'"):
        source = Source("question_answer", ("*",), columns={"question": "質問", "answer": "回答"}, scores=("extr",))
        checked(source, path)


def test_the_wrong_format_is_told_by_its_column(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", [{"messages": []}])
    with pytest.raises(
        RecipeError, match=r"columns\.conversations: no column 'conversations' in its files; it has mess"
    ):
        checked(Source("conversations", ("*",)), path)


def test_a_column_may_stand_late_or_in_one_file_only(tmp_path: Path) -> None:
    rows = [{"conversations": []}] * 700 + [{"conversations": [], "picture": "a.jpg"}] * 300
    late = written(tmp_path, "a.json", rows)
    source = Source("conversations", ("*",), columns={"image": "picture", "role": "role", "text": "content"})
    checked(source, late)
    other = written(tmp_path, "b.jsonl", [{"conversations": []}])
    checked(source, other, late)
    with pytest.raises(RecipeError, match=r"columns\.image: no column 'picture'"):
        checked(source, other)


def test_columns_of_a_tar_are_those_of_its_json(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tar", [{"alt": "x"}])
    checked(Source("webdataset", ("*",)), path)
    checked(Source("webdataset", ("*",), columns={"caption": "alt"}), path)
    with pytest.raises(RecipeError, match=r"columns\.caption: no column 'alto' in its files; did you mean 'alt'"):
        checked(Source("webdataset", ("*",), columns={"caption": "alto"}), path)


def test_files_without_rows_or_with_bad_rows_alone_are_not_asked(tmp_path: Path) -> None:
    empty = written(tmp_path, "a.json", [])
    bad = tmp_path / "b.jsonl"
    bad.write_text("not json\n[1]\n")
    checked(Source("caption", ("*",), columns={"caption": "x"}), empty, bad)
