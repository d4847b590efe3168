"""Which names a source may rate its rows under, told from its declaration and the schemas of its files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.sources.declaration import Source
from stages.sources.rating_check import may_rate

TEXTS = Source(format="texts", files=("*.parquet",))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name, columns in {"a": ["texts", "relevance_min"], "b": ["texts", "formatting_min"]}.items():
        pq.write_table(pa.table({column: [1] for column in columns}), tmp_path / f"{name}.parquet")
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "may"), [("relevance_min", True), ("formatting_min", True), ("relevence_min", False), ("texts", False)]
)
def test_the_columns_of_any_file_count(name: str, may: bool, files: list[Path]) -> None:
    assert may_rate(name, TEXTS, lambda: files) is may


def test_what_cannot_be_known_is_perhaps(files: list[Path], tmp_path: Path) -> None:
    assert may_rate("other_min", TEXTS, lambda: None)
    assert may_rate("other_min", TEXTS, lambda: [*files, tmp_path / "c.jsonl"])
    assert may_rate("other_min", TEXTS, lambda: files * 129)
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    assert may_rate("other_min", TEXTS, lambda: [*files, tmp_path / "broken.parquet"])
    assert not may_rate("other", TEXTS, lambda: None)


def test_other_shapes_rate_by_what_they_declare() -> None:
    caption = Source(format="caption", files=("*",), scores=("similarity",))
    assert may_rate("similarity", caption, lambda: None)
    assert not may_rate("similarity_min", caption, lambda: None)
