"""What is written once all tasks of a step are done."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.steps import pretokenise
from pipeline.storage import layout
from tests.pipeline.conftest import MakeRecipe, run

Finished = tuple[Path, Context, list[Step]]


def shard_indexes(folder: Path) -> list[pa.Table]:
    paths = sorted(folder.glob("index-*.parquet"), key=lambda path: layout.number_of(path.name))
    return [pq.read_table(path) for path in paths]


def test_the_index_is_those_of_the_shards_one_after_the_other(finished_run: Finished) -> None:
    _, context, steps = finished_run
    folder = context.out / steps[-1].folder
    shards = shard_indexes(folder)
    assert len(shards) > 3
    assert pq.read_table(folder / layout.INDEX).equals(pa.concat_tables(shards))
    assert pq.ParquetFile(folder / layout.INDEX).num_row_groups == 1


def test_a_row_group_of_the_index_is_of_whole_shards_and_of_no_more_than_it_takes(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretokenise, "_INDEX_ROWS", 60)
    context, steps = run(make_recipe())
    folder = context.out / steps[-1].folder
    file = pq.ParquetFile(folder / layout.INDEX)
    groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    shards = shard_indexes(folder)
    assert pa.concat_tables(groups).equals(pa.concat_tables(shards))
    assert 1 < len(groups) < len(shards)
    last = {group["shard"][-1].as_py(): group.num_rows for group in groups}
    assert all(60 <= rows < 60 + shards[number].num_rows for number, rows in list(last.items())[:-1])
