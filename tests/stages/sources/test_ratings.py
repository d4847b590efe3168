"""Which names a source may rate its rows under, told from its declaration and the schemas of its files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.sources.declaration import Source
from stages.sources.rating_check import may_rate, may_rate_turns
from stages.sources.shapes.draft import BadRow, ratings

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


def test_turns_are_rated_by_lists_of_one_shape_alone(tmp_path: Path) -> None:
    path = tmp_path / "rated.parquet"
    pq.write_table(pa.table({"texts": [1], "relevance_ratings": [[1]], "relevance_min": [1]}), path)
    assert may_rate_turns("relevance_ratings", TEXTS, lambda: [path])
    assert may_rate_turns("relevance_ratings", TEXTS, lambda: None)
    assert not may_rate_turns("relevance_min", TEXTS, lambda: [path])
    assert not may_rate_turns("other_ratings", TEXTS, lambda: [path])
    listing = Source(format="messages", files=("*",), scores=("relevance_ratings",))
    assert not may_rate_turns("relevance_ratings", listing, lambda: [path])


def test_other_shapes_rate_by_what_they_declare() -> None:
    caption = Source(format="caption", files=("*",), scores=("similarity",))
    assert may_rate("similarity", caption, lambda: None)
    assert not may_rate("similarity_min", caption, lambda: None)


def test_a_list_of_names_and_values_may_rate_under_any_name(tmp_path: Path, files: list[Path]) -> None:
    listed = pa.list_(pa.struct([("name", pa.string()), ("value", pa.float32())]))
    own = tmp_path / "own.parquet"
    pq.write_table(pa.table({"scores": pa.array([[{"name": "relevance_min", "value": 2}]], listed)}), own)
    messages = Source(format="messages", files=("*",), scores=("scores",))
    assert may_rate("relevance_min", messages, lambda: [own])
    assert may_rate("relevance_min", messages, lambda: None)
    assert not may_rate("relevance_min", messages, lambda: files)


def test_what_a_list_rates_counts_by_its_names() -> None:
    rated = [{"name": "a", "value": 2}, {"name": "b", "value": None}, {"name": "c", "value": 0.5}]
    assert ratings({"scores": rated, "d": 1}, ["scores", "d"]) == {"a": 2.0, "c": 0.5, "d": 1.0}
    for wrong in ([1, 2], [{"value": 1}], [{"name": "a", "value": "much"}], [{"name": 3, "value": 1}]):
        with pytest.raises(BadRow, match="malformed_record: the score"):
            ratings({"scores": wrong}, ["scores"])
