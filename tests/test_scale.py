"""The benchmark of large runs, small: what it builds is a run that this program takes for its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.scale import Lines

PARTS = 7


def tasks(lines: Lines) -> dict[str, int]:
    return {name: found.tasks for name, found in lines}


@pytest.mark.slow
def test_a_run_of_parts_is_resumed_where_it_ended_and_closed_without_a_task(tmp_path: Path) -> None:
    found = tasks(scale.run_of_parts(tmp_path, parts=PARTS, sources=1, rows=64))
    left, shards = PARTS - PARTS // 2, 2
    assert found == {
        "`plan`, half done": 0,
        **{f"resume {name}": left for name in ("ingest", "language", "rows")},
        **{f"close {name}": 0 for name in ("ingest", "language", "shards")},
        "close rows": shards,
        "resume shards": 1,
        "`plan`, finished": 0,
        "`run`, finished": 0,
    }


@pytest.mark.slow
def test_a_folder_of_small_files_is_hashed_from_where_it_ended(tmp_path: Path) -> None:
    found = tasks(scale.folder_of_files(tmp_path, files=3000))
    assert list(found.values()) == [0, 3, 2, 0, 0, 3]
