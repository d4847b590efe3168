"""One byte of a finished step flips: whoever reads it next says so in a line, and nothing wrong is made of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Step
from pipeline.storage.part_reader import read, row_groups
from pipeline.storage.part_writer import write_parquet
from schemas.manifest import ManifestError
from schemas.sample import SAMPLE
from tests.pipeline.conftest import opened, run

Finished = tuple[Path, Context, list[Step]]


@pytest.fixture
def copied(tiny_run: Finished, tmp_path: Path) -> tuple[Path, Path, list[Step]]:
    """(recipe, output folder without shards, steps)."""
    recipe, context, steps = tiny_run
    out = tmp_path / "out"
    shutil.copytree(context.out, out)
    shutil.rmtree(out / steps[-1].folder)
    return recipe, out, steps


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(bytes(data))


def inside(path: Path, column: str) -> int:
    """A place in the middle of a column's bytes."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.endswith(column))
    return int(chunk.data_page_offset) + int(chunk.total_compressed_size) * 2 // 3


def named(steps: list[Step], name: str) -> Step:
    return next(step for step in steps if step.name == name)


@pytest.mark.parametrize(
    ("column", "what", "phase"),
    [("bytes", "shards", "."), ("text", "parts", "rows"), ("width", "parts", "rows"), ("sample_id", "parts", "rows")],
)
def test_a_flipped_byte_of_a_part_of_samples_is_in_no_shard(
    copied: tuple[Path, Path, list[Step]], column: str, what: str, phase: str
) -> None:
    recipe, out, steps = copied
    part = out / named(steps, "ingest signs").folder / "part-00000.parquet"
    flip(part, inside(part, column))
    with pytest.raises(StepError, match=rf"pretokenise: 1 of .* {what} could not be read: .*part-00000\.parquet"):
        run(recipe, out)
    (folder,) = out.glob("09-pretokenise-*")
    assert not (folder / "manifest.json").exists() and len(list((folder / phase).glob("part-*.json"))) > 1


def test_an_image_that_is_not_the_one_that_ingest_saw_is_named_by_part_and_sample(
    copied: tuple[Path, Path, list[Step]],
) -> None:
    """As if the checksum of its page had been made of the wrong bytes."""
    recipe, out, steps = copied
    part = out / named(steps, "ingest signs").folder / "part-00000.parquet"
    table = pq.read_table(part)
    rows = table.to_pylist()
    image = rows[1]["images"][0]
    image["bytes"] = image["bytes"][:100] + bytes([image["bytes"][100] ^ 1]) + image["bytes"][101:]
    size = part.stat().st_size
    pq.write_table(type(table).from_pylist(rows, table.schema), part, compression="NONE", write_page_checksum=True)
    context, opened_steps = opened(recipe, out)
    manifest = context.out / named(steps, "ingest signs").folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"size": {size}', f'"size": {part.stat().st_size}'))
    with pytest.raises(StepError) as caught:
        run(recipe, out)
    error = str(caught.value)
    assert f"{part}: signs/signs.jsonl#" in error and "an image has other bytes than its sha256 says" in error
    assert "\n" not in error and opened_steps


def test_a_flipped_byte_that_no_decompressor_sees_is_found_by_its_page(tmp_path: Path) -> None:
    rows = [{"images": [{"bytes": bytes(5000), "path": None}]}]
    schema = pa.schema([SAMPLE.field("images")])
    write_parquet([pa.Table.from_pylist(rows, schema)], schema, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").to_pylist() == rows
    flip(tmp_path / "a.parquet", inside(tmp_path / "a.parquet", "bytes"))
    with pytest.raises(ManifestError, match=r"a\.parquet: damaged"):
        read(tmp_path / "a.parquet")
    with pytest.raises(ManifestError, match=r"a\.parquet: damaged"):
        list(row_groups(tmp_path / "a.parquet"))


@pytest.mark.parametrize("stage", ["dedupe", "decontaminate", "language", "quality"])
def test_a_flipped_byte_of_a_verdict_is_one_line(copied: tuple[Path, Path, list[Step]], stage: str) -> None:
    recipe, out, steps = copied
    verdict = out / named(steps, stage).folder / "verdict-00001.parquet"
    flip(verdict, inside(verdict, "sample_id"))
    with pytest.raises(StepError, match=r"could not be read: .*verdict-00001\.parquet: damaged"):
        run(recipe, out)


def test_filters_and_commands_say_it_too(
    copied: tuple[Path, Path, list[Step]], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out, steps = copied
    part = out / named(steps, "ingest talks").folder / "part-00000.parquet"
    flip(part, inside(part, "sample_id"))
    shutil.rmtree(out / named(steps, "quality").folder)
    with pytest.raises(StepError, match=r"quality: .*part-00000\.parquet: damaged"):
        run(recipe, out)
    assert main(["show", str(recipe), "talks/talks/b.jsonl#0", "--out", str(out)]) in (1, 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9] + b"\xff" * 9)


def other(path: Path) -> None:
    pq.write_table(pq.read_table(path).append_column("more", [[None] * pq.read_table(path).num_rows]), path)


@pytest.mark.parametrize("damage", [cut, other])
def test_a_damaged_list_of_files_is_one_line(
    copied: tuple[Path, Path, list[Step]], damage: Callable[[Path], None]
) -> None:
    recipe, out, steps = copied
    folder = out / named(steps, "hash talks").folder
    before = (folder / "files.parquet").stat().st_size
    damage(folder / "files.parquet")
    manifest = folder / "manifest.json"
    after = (folder / "files.parquet").stat().st_size
    manifest.write_text(manifest.read_text().replace(f'"size": {before}', f'"size": {after}'))
    shutil.rmtree(out / named(steps, "ingest talks").folder)
    with pytest.raises(ManifestError, match=r"files\.parquet"):
        run(recipe, out)
