"""Columns that nobody reads cost nothing, and lists that are read have an end."""

from __future__ import annotations

import datetime
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.sources.records import parquet
from stages.sources.records.parquet import read, unread
from stages.sources.records.streams import DataError, Limits
from stages.sources.shapes.draft import BadRow

MIB = 1024 * 1024
WRITE = """
import sys, pyarrow as pa, pyarrow.parquet as pq
many = 50_000_000
values = pa.nulls(many) if sys.argv[1] == "null" else pa.repeat(pa.scalar(True), many)
table = pa.table({"text": ["x"], "bad": pa.ListArray.from_arrays(pa.array([0, many], pa.int32()), values)})
pq.write_table(table, sys.argv[2], compression="zstd", data_page_size=1 << 30, write_batch_size=many)
"""


def records(path: Path, *names: str, limits: Limits = Limits()) -> list[Any]:  # noqa: B008
    wanted = names.__contains__ if names else parquet.all_columns
    found = [record for _, record in read(path, 0, 1000, limits, wanted)]
    return [record.reason if isinstance(record, BadRow) else record for record in found]


@pytest.fixture(scope="module", params=["null", "bool"])
def hostile(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One row of 50 million entries in a column `bad`, in a file of a few kilobytes; written by another process."""
    path = tmp_path_factory.mktemp("hostile") / "a.parquet"
    subprocess.run([sys.executable, "-c", WRITE, request.param, str(path)], check=True)
    assert path.stat().st_size < 100_000
    return path


def test_a_column_nobody_reads_costs_nothing(hostile: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert records(hostile, "text") == [{"text": "x"}]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert unread(hostile, lambda name: name == "text") == ["bad"]


def test_entries_of_a_column_that_is_read_are_capped(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_MOST_ENTRIES", 40_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert records(hostile) == ["row_too_large"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_the_entries_of_a_row_count_like_bytes(tmp_path: Path) -> None:
    lists = [[None] * 10, [None] * 20_000, [[None]] * 3]
    table = pa.table({"n": [0, 1, 2], "bad": pa.array([[1], [1] * 20_000, [1] * 3], pa.list_(pa.int8()))})
    pq.write_table(table, tmp_path / "a.parquet")
    found = records(tmp_path / "a.parquet", limits=Limits(row=MIB))
    assert [r if isinstance(r, str) else len(r["bad"]) for r in found] == [1, "row_too_large", 3]
    inner = pa.array([[{"a": lists[0]}], [{"a": lists[1]}], [{"a": []}]])
    pq.write_table(pa.table({"deep": inner}), tmp_path / "b.parquet")
    found = records(tmp_path / "b.parquet", limits=Limits(row=MIB))
    assert [r if isinstance(r, str) else len(r["deep"][0]["a"]) for r in found] == [10, "row_too_large", 0]
    pairs = pa.array([[("k", 1)], [(str(n), n) for n in range(20_000)], []], pa.map_(pa.string(), pa.int32()))
    pq.write_table(pa.table({"pairs": pairs}), tmp_path / "c.parquet")
    found = records(tmp_path / "c.parquet", limits=Limits(row=MIB))
    assert [r if isinstance(r, str) else len(r["pairs"]) for r in found] == [1, "row_too_large", 0]


def test_large_row_groups_of_short_lists_are_no_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_MOST_ENTRIES", 4000)
    pq.write_table(pa.table({"turns": [["a", "b"]] * 3999}), tmp_path / "a.parquet")
    assert records(tmp_path / "a.parquet")[0] == {"turns": ["a", "b"]}
    pq.write_table(pa.table({"turns": [["a", "b"]] * 4001}), tmp_path / "a.parquet")
    assert records(tmp_path / "a.parquet")[0] == "row_too_large"


def test_a_time_that_python_cannot_hold_matters_where_it_is_read(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["x", "y"],
            "late": pa.array([2**62, 0], pa.timestamp("us")),
            "zoned": pa.array([0, 0], pa.timestamp("us", "Atlantis/Nowhere")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert records(tmp_path / "a.parquet", "text") == [{"text": "x"}, {"text": "y"}]
    found = records(tmp_path / "a.parquet", "text", "late")
    assert found == ["malformed_record", {"text": "y", "late": datetime.datetime(1970, 1, 1)}]


def test_columns_of_one_name_are_refused_where_they_are_read(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"]), pa.array([1])], names=["text", "text", "n"])
    pq.write_table(table, tmp_path / "a.parquet")
    assert records(tmp_path / "a.parquet", "n") == [{"n": 1}]
    with pytest.raises(DataError, match=r"a\.parquet: two columns are called 'text'; rename one"):
        records(tmp_path / "a.parquet", "text")


def test_columns_are_chosen_by_name_whatever_is_in_it(tmp_path: Path) -> None:
    """A dot in a name is a path to parquet, and what is nested has several columns of parquet's."""
    rows = [{"a": 1, "a.b": {"c": [2], "d": {"e": 3, "f": [[4]]}}, "m": {"x": None}, "": 5, "a.b.c": 6, "z": "7"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in rows[0]:
        assert records(tmp_path / "a.parquet", name) == [{name: rows[0][name]}]
    pairs = pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"pairs": pairs, "z": ["7"]}), tmp_path / "a.parquet")
    assert records(tmp_path / "a.parquet", "z") == [{"z": "7"}]


def test_a_file_with_none_of_the_columns_has_its_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "a.parquet")
    assert records(tmp_path / "a.parquet", "b") == [{}, {}, {}]


def test_a_column_without_a_value_is_not_told(tmp_path: Path) -> None:
    nothing = pa.array([None, None], pa.list_(pa.string()))
    pq.write_table(pa.table({"a": [1, 2], "b": pa.nulls(2, pa.int8()), "c": nothing, "d": [None, 1]}), tmp_path / "a")
    assert unread(tmp_path / "a", lambda name: name == "a") == ["d"]
