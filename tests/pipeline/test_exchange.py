"""Rows that are exchanged: what a task wrote for a bucket is what is read of it, whole and in order, or an error."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import exchange
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import ManifestError

ROW = pa.schema([("number", pa.int64()), ("texts", pa.list_(pa.string()))])


def table(*numbers: int) -> pa.Table:
    return pa.Table.from_pylist([{"number": n, "texts": ["t"] * (n % 3)} for n in numbers], ROW)


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=3), st.integers(10, 12))
def test_every_row_comes_into_its_bucket_once_and_in_order(tasks: list[list[int]], buckets: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, places in enumerate(tasks):
            writer = PartWriter(Path(folder), number)
            rows = table(*(100 * number + at for at in range(len(places))))
            exchange.write(writer, "rows", rows, np.array(places, np.int64), buckets)
            assert [entry.rows for entry in writer.entries] == [len(places)]
        for bucket in range(buckets):
            wanted = [100 * n + at for n, places in enumerate(tasks) for at, own in enumerate(places) if own == bucket]
            found = exchange.read(Path(folder), "rows", len(tasks), bucket, buckets, ROW)
            assert found.equals(table(*wanted)) and found.schema == ROW


def test_some_columns_are_read_alone_and_no_bucket_is_no_rows(tmp_path: Path) -> None:
    exchange.write(PartWriter(tmp_path), "rows", table(1, 2, 3), np.array([1, 0, 1]), 2)
    block = exchange.block(tmp_path, "rows", 0, 1, 2, ROW, ["number"])
    assert block is not None and block.to_pydict() == {"number": [1, 3]}
    exchange.write(PartWriter(tmp_path, 1), "rows", table(), np.zeros(0, np.int64), 0)


def test_any_byte_of_a_file_that_flips_is_found_by_whoever_reads_it(tmp_path: Path) -> None:
    exchange.write(PartWriter(tmp_path), "rows", table(*range(20)), np.arange(20) % 2, 2)
    path = tmp_path / exchange.file_name("rows", 0)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        failed = 0
        for bucket in range(2):
            try:
                exchange.read(tmp_path, "rows", 1, bucket, 2, ROW)
            except ManifestError as error:
                assert "damaged" in str(error)
                failed += 1
        assert failed, place
    path.write_bytes(whole[:-1])
    with pytest.raises(ManifestError, match=r"rows-00000\.rows: damaged"):
        exchange.read(tmp_path, "rows", 1, 0, 2, ROW)
