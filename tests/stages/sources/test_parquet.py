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
from stages.sources.records.slices import head, slices
from stages.sources.records.streams import DataError, Limits
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


def varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def forged(path: Path, rows: int, groups: list[int]) -> Path:
    """A parquet file of nothing but a footer, in Thrift's compact protocol: so many rows, in such groups."""
    listed = b"".join(b"\x19\x0c\x16\x00\x16" + varint(group) + b"\0" for group in groups)
    footer = b"\x15\x04\x19\x1c\x48\x06schema\x15\x00\x00\x16" + varint(rows)
    footer += b"\x19" + bytes([len(groups) << 4 | 12]) + listed + b"\0"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return path


@pytest.mark.parametrize(
    ("rows", "groups", "message"),
    [
        (2**62, [], "4,611,686,018,427,387,904 rows, and 0 in its row groups"),
        (2**62, [2**62], "4,611,686,018,427,387,904 rows without a column"),
        (2**40, [2**39, 2**39], "without a column"),
        (-(2**62), [-(2**62)], "it is damaged or forged"),
        (9, [9], "9 rows without a column"),
        (5, [6], "5 rows, and 6 in its row groups"),
        (-1, [], "-1 rows, and 0"),
        (0, [5, -5], "0 rows, and 0 in its row groups"),
    ],
)
def test_a_footer_that_says_more_rows_than_there_can_be_is_refused(
    tmp_path: Path, rows: int, groups: list[int], message: str
) -> None:
    path = forged(tmp_path / "f.parquet", rows, groups)
    for look in (lambda: slices(path, "f", 64), lambda: list(read(path, 0, 64, Limits())), lambda: head(path, 64)):
        with pytest.raises(DataError, match=message):
            look()


@pytest.mark.parametrize("rows", [1500, 2**40])
def test_rows_that_are_said_and_are_not_there_are_one_line(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"a": ["x"] * 1000}), path, store_schema=False)
    data = path.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = data[start:-8].replace(b"\x16" + varint(1000), b"\x16" + varint(rows))
    path.write_bytes(data[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert pq.read_metadata(path).num_rows == rows
    with pytest.raises(DataError, match=r"damaged at row 1,0|rows in [0-9,]+ bytes, at most 1,048,576 can be"):
        list(read(path, 0, 1500, Limits()))


def test_rows_that_are_all_alike_may_be_many(tmp_path: Path) -> None:
    path = tmp_path / "alike.parquet"
    pq.write_table(pa.table({"a": ["the same"] * 900_000}), path)
    assert path.stat().st_size < 20_000 and count(path) == 900_000
