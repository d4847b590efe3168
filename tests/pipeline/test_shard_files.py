"""Shards are cut by bytes: the same rows in the same order whatever their size, and open to `datasets` as they lie."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.commands import verify
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage import layout
from schemas.manifest import read
from tests.pipeline.conftest import MakeRecipe, run

Finished = tuple[Path, Context, list[Step]]
Edit = dict[str, Any]


def rows(folder: Path) -> list[list[dict[str, Any]]]:
    """The rows of each shard."""
    paths = sorted(folder.glob("shard-*.arrow"), key=lambda path: layout.number_of(path.name))
    return [pa.ipc.open_file(path.read_bytes()).read_all().to_pylist() for path in paths]


def size(row: dict[str, Any]) -> int:
    return 4 * len(row["input_ids"]) + sum(len(image["bytes"]) for image in row["images"])


@pytest.mark.parametrize("most", [3000, 9000, 20_000, 10**9])
def test_shards_of_any_size_hold_the_same_rows(tiny_run: Finished, tiny_recipe: MakeRecipe, most: int) -> None:
    _, context, steps = tiny_run
    wanted = [row for shard in rows(context.out / steps[-1].folder) for row in shard]
    context, steps = run(tiny_recipe(lambda m: m["data"]["pretokenise"].update(shard_bytes=most)))
    folder = context.out / steps[-1].folder
    shards = rows(folder)
    assert [row for shard in shards for row in shard] == wanted
    assert len(shards) == {3000: 6, 9000: 4, 20_000: 2, 10**9: 1}[most]
    filled = [sum(map(size, shard)) for shard in shards]
    assert all(of <= most or len(shard) <= 6 for of, shard in zip(filled, shards, strict=True))
    assert verify.check(folder).counts.kept == 29
    parts = {path.name for path in folder.glob("verdict-*.parquet")}
    assert parts == {layout.verdict(number) for number in range(7)}


def test_evidence_and_origin_of_a_row_are_columns(tiny_run: Finished) -> None:
    _, context, steps = tiny_run
    table = pa.Table.from_pylist([row for shard in rows(context.out / steps[-1].folder) for row in shard])
    names = [{score["name"] for score in found} for found in table["scores"].to_pylist()]
    assert all({"language.confidence", "quality.characters"} <= found for found in names)
    assert any("quality.smallest_side" in found for found in names)
    assert set(table["subset"].to_pylist()) == {"talks", "signs"} and set(table["language"].to_pylist()) == {"en"}
    assert table["messages"].null_count == table.num_rows


def test_messages_are_kept_where_the_recipe_says_so(tiny_recipe: MakeRecipe) -> None:
    context, steps = run(tiny_recipe(lambda m: m["data"]["pretokenise"].update(keep_messages=True)))
    kept = {row["sample_id"]: row["messages"] for shard in rows(context.out / steps[-1].folder) for row in shard}
    parts = [path for step in steps if step.stage.makes == "samples" for path in (context.out / step.folder).glob("*")]
    samples = [row for path in parts if path.name.endswith(".parquet") for row in pq.read_table(path).to_pylist()]
    given = {row["sample_id"]: row["messages"] for row in samples if "messages" in row}
    assert len(kept) == 29 and all(given[name] == messages for name, messages in kept.items())


def test_datasets_opens_the_folder_and_its_files_alone(tiny_run: Finished, tmp_path: Path) -> None:
    """No cast, no columns named: pictures are pictures, in both ways that its users open such a folder."""
    import datasets

    _, context, steps = tiny_run
    folder = context.out / steps[-1].folder
    wanted = [row for shard in rows(folder) for row in shard]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own housekeeping
        ways = [
            datasets.load_dataset(
                "arrow", data_files=str(folder / "shard-*.arrow"), split="train", cache_dir=str(tmp_path / "files")
            ),
            datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "folder")),
            datasets.load_dataset(str(folder), split="train", streaming=True),
        ]
        for loaded in ways:
            found = list(loaded)
            assert [row["sample_id"] for row in found] == [row["sample_id"] for row in wanted]
            assert [[picture.size for picture in row["images"]] for row in found] == [
                [(tile["width"], tile["height"]) for tile in row["tiles"]] for row in wanted
            ]
            for name in ("input_ids", "target_spans", "tiles", "scores", "label_changes"):
                assert [row[name] for row in found] == [row[name] for row in wanted]
        assert isinstance(ways[0].features["images"].feature, datasets.Image)


def test_the_manifest_and_the_index_say_which_tokenizer_and_scheme(tiny_recipe: MakeRecipe, tiny_run: Finished) -> None:
    def prints(context: Context, steps: list[Step]) -> dict[str, str]:
        found: dict[str, str] = read(context.out / steps[-1].folder).facts["fingerprints"]
        return found

    _, *before = tiny_run
    other = run(tiny_recipe(lambda m: m["data"]["pretokenise"]["tiles"].update(max_tiles=3)))
    assert prints(*before)["tokenizer"] == prints(*other)["tokenizer"]
    assert prints(*before)["scheme"] != prints(*other)["scheme"]
