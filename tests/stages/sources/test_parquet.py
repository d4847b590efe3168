"""Rows of parquet files whose row groups, pages or rows are large: every row once, and in bounded memory."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.sources.records import parquet
from stages.sources.records.parquet import count, read
from stages.sources.records.streams import Limits
from stages.sources.shapes.draft import BadRow

MIB = 1024 * 1024
SCHEMA = pa.schema(
    [("n", pa.int64()), ("images", pa.list_(pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])))]
)
PLAIN: dict[str, Any] = {  # a page for every row
    "write_batch_size": 1,
    "data_page_size": 1,
    "use_dictionary": False,
    "compression": "none",
}


def written(folder: Path, sizes: list[list[int]], group: int, **options: Any) -> Path:
    """Rows of images of these sizes."""
    rows = [{"n": n, "images": [{"bytes": bytes([n % 256]) * size} for size in row]} for n, row in enumerate(sizes)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "a.parquet", row_group_size=group, **options)
    return folder / "a.parquet"


def outcomes(path: Path, step: int, limits: Limits, order: Any = list) -> list[Any]:
    """What becomes of every row, slice by slice."""
    starts = order(range(0, count(path), step))
    found = {row: record for start in starts for row, record in read(path, start, step, limits)}
    assert sorted(found) == list(range(count(path)))
    return [_brief(found[row]) for row in sorted(found)]


def _brief(record: Any) -> Any:
    if isinstance(record, BadRow):
        return record.reason
    assert all(set(image["bytes"]) <= {record["n"] % 256} for image in record["images"])
    return [len(image["bytes"]) for image in record["images"]]


@pytest.fixture(autouse=True)
def _forget() -> None:
    parquet._last.clear()


@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"data_page_version": "2.0"}])
def test_a_page_beyond_all_measure_costs_its_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, options: dict[str, Any]
) -> None:
    """Arrow reads a page whole before anybody sees it; compressed, it looks small."""
    monkeypatch.setattr(parquet, "_MOST_PAGE", 4 * MIB)
    sizes = [[9], [8, 7], [MIB // 2] * 10, [6], [5], [4], [3 * MIB, 2], []]
    path = written(tmp_path, sizes, 5, **{**PLAIN, **options})
    order = random.Random(step).sample
    found = outcomes(path, step, Limits(), lambda starts: order(list(starts), len(starts)))
    assert found == ["row_too_large"] * 5 + [[4], [3 * MIB, 2], []]


def test_many_pages_of_one_row_are_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row before them goes too where arrow looks into the next page to end it; those behind can't be reached."""
    monkeypatch.setattr(parquet, "_MOST_PAGE", 4 * MIB)
    table = pa.table({name: [b"x" * size for size in (1, 3 * MIB, 2)] for name in "abcd"})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2, **PLAIN)
    records = [record for _, record in read(tmp_path / "a.parquet", 0, 3, Limits())]
    assert [r.reason if isinstance(r, BadRow) else len(r["c"]) for r in records] == [1, "row_too_large", 2]
    assert records[1].detail.startswith("row 1 takes ")


def test_a_row_that_fits_the_page_but_not_the_limit_costs_itself(tmp_path: Path) -> None:
    path = written(tmp_path, [[9], [3 * MIB], [8]], 5)
    assert outcomes(path, 2, Limits(row=MIB)) == [[9], "row_too_large", [8]]


def test_few_large_rows_among_many_small_ones_are_read_one_by_one(tmp_path: Path) -> None:
    sizes = [[MIB // 3] * 3 if 300 <= n < 320 else [n % 7] for n in range(3000)]
    path = written(tmp_path, sizes, 3000, **PLAIN)
    assert outcomes(path, 1000, Limits(row=2 * MIB)) == sizes


def test_a_large_row_group_is_read_once_by_slices_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, [[MIB // 10]] * 300, 300, **PLAIN)
    taken = []
    whole = parquet._Meter.read
    monkeypatch.setattr(parquet._Meter, "read", lambda self, size: (taken.append(size), whole(self, size))[1])
    assert len(outcomes(path, 20, Limits())) == 300
    assert path.stat().st_size < sum(taken) < 1.2 * path.stat().st_size
    taken.clear()
    odd = [row for start in range(20, 300, 40) for row, _ in read(path, start, 20, Limits())]  # the other worker's
    assert len(odd) == 140 and sum(taken) < 1.2 * path.stat().st_size
