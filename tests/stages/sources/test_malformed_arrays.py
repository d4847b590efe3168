"""Arrays full of what is no JSON: each costs its row, and the time is that of reading the file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.sources.records.slices import read, slices
from stages.sources.shapes.draft import BadRow

ROWS = 60_000
BROKEN = {
    "a bare word": b'{"a": b}',
    "between sound ones": b'{"a": b},\n{"a": "' + b"x" * 60 + b'"}',
    "a number with two points": b"[1.2.3]",
    "a wrong escape": b'{"a": "\\q"}',
}


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


@pytest.mark.parametrize("kind", BROKEN)
def test_the_time_for_malformed_records_is_linear(tmp_path: Path, kind: str) -> None:
    """Ten thousand rows more cost as much at the end of the file as at its beginning: 200,000 took 46 s."""
    path, record = tmp_path / "a.json", BROKEN[kind]
    path.write_bytes(b"[" + b",\n".join([record] * ROWS) + b"]")
    took = seconds(lambda: slices(path, "a.json", 64))
    path.write_bytes(b"[" + b",\n".join([record] * (ROWS // 8)) + b"]")
    share = seconds(lambda: slices(path, "a.json", 64))
    assert took < 8 * share * 2 + 0.2


@pytest.mark.parametrize("kind", BROKEN)
def test_each_malformed_record_is_a_reject_at_its_row(tmp_path: Path, kind: str) -> None:
    path, record = tmp_path / "a.json", BROKEN[kind]
    path.write_bytes(b"[" + b",\n".join([record] * 300) + b"]")
    rows = [found for part in slices(path, "a.json", 64) for found in read(path, part)]
    per = record.count(b"},") + 1
    assert [row for row, _ in rows] == list(range(300 * per))
    assert [isinstance(found, BadRow) for _, found in rows[:per]] == [True, False][:per]
    assert sum(isinstance(found, BadRow) for _, found in rows) == 300
