"""A shard's map covers the shard: a flipped byte is found by the hash of its piece, or is an image's."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas import shard_map
from schemas.shard import COUNTS, SHARD
from schemas.shard_map import Damaged, ShardMap

PICTURES = [[b"first picture", b"second"], [], [b"third"], [b""], [b"", b"the last one, which is longer"]]


def rows() -> list[dict[str, Any]]:
    return [
        {
            "sample_id": f"a#{number}",
            "source": "a",
            "subset": "b",
            "licence": None,
            "language": "en" if number % 2 else None,
            "input_ids": [1, 2, number],
            "target_spans": [[1, 2]],
            "label_changes": [],
            "images": [{"bytes": picture, "path": None} for picture in pictures],
            "image_sha256": [hashlib.sha256(picture).hexdigest() for picture in pictures],
            "tiles": [],
            **dict.fromkeys(COUNTS, 1),
            "scores": [],
            "messages": None,
        }
        for number, pictures in enumerate(PICTURES)
    ]


def write(path: Path, per_batch: int) -> ShardMap:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SHARD) as writer:
        writer.write_table(pa.Table.from_pylist(rows(), SHARD), max_chunksize=per_batch)
    return shard_map.survey(path)


@pytest.fixture(params=[1, 2, 9])
def shard(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, ShardMap]:
    return tmp_path / "shard.arrow", write(tmp_path / "shard.arrow", request.param)


def test_the_image_range_of_every_batch_is_its_images_bytes(shard: tuple[Path, ShardMap]) -> None:
    path, found = shard
    data = path.read_bytes()
    ranges = [data[batch.images : batch.images_end] for batch in found.batches]
    assert b"".join(ranges) == b"".join(picture for pictures in PICTURES for picture in pictures)
    assert sum(batch.rows for batch in found.batches) == len(PICTURES)


def test_batches_are_read_back_by_their_ranges_alone(shard: tuple[Path, ShardMap]) -> None:
    path, found = shard
    data = shard_map.mapped(path)
    batches = [shard_map.read_batch(data, batch) for batch in found.batches]
    assert pa.Table.from_batches(batches).to_pylist() == rows()


def test_every_flipped_byte_is_found_unless_it_is_an_images(shard: tuple[Path, ShardMap]) -> None:
    path, found = shard
    sound = path.read_bytes()
    images = {at for batch in found.batches for at in range(batch.images, batch.images_end)}
    for at in range(len(sound)):
        data = bytearray(sound)
        data[at] ^= 1 << at % 8
        wrong = 0
        for check in (lambda buffer: shard_map.check_rest(buffer, found), *map(_checks, found.batches)):
            try:
                check(pa.py_buffer(bytes(data)))
            except Damaged:
                wrong += 1
        assert wrong == (at not in images), at


def _checks(batch: shard_map.Batch) -> Callable[[pa.Buffer], None]:
    return lambda buffer: shard_map.check_batch(buffer, batch)


def test_a_map_comes_back_from_its_text(shard: tuple[Path, ShardMap]) -> None:
    assert shard_map.from_json(shard[1].to_json()) == shard[1]


def test_a_shard_without_rows_is_all_rest(tmp_path: Path) -> None:
    path = tmp_path / "shard.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SHARD):
        pass
    assert shard_map.survey(path) == ShardMap((), hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_cut_file_is_damaged_whatever_the_map_says(shard: tuple[Path, ShardMap]) -> None:
    path, found = shard
    data = shard_map.mapped(path)
    last = found.batches[-1]
    with pytest.raises(Damaged, match="differ"):
        shard_map.check_batch(data.slice(0, last.end - 1), last)


def test_ranges_that_are_none_are_no_map(shard: tuple[Path, ShardMap]) -> None:
    first = shard[1].batches[0]
    for wrong in ({"start": -1}, {"images": first.end + 1}, {"images_end": 0}, {"end": first.start}, {"rows": 0}):
        with pytest.raises(ValueError, match="is no batch"):
            ShardMap((dataclasses.replace(first, **wrong),), "")
    with pytest.raises(ValueError, match="follow each other"):
        ShardMap((first, first), "")


def test_arrays_that_hash_right_and_are_unsound_are_refused(shard: tuple[Path, ShardMap]) -> None:
    """A hash proves who wrote the bytes, not that Arrow may trust them: offsets beyond the data, rows without ids."""
    path, found = shard
    batch = found.batches[0]
    mapped = shard_map.mapped(path)
    offsets = shard_map.read_batch(mapped, batch)["input_ids"].buffers()[1]
    at = offsets.address - mapped.address + batch.rows * 4  # the end of the last list
    data = bytearray(path.read_bytes())
    data[at : at + 4] = (1 << 30).to_bytes(4, "little")
    narrow = bytes(data[batch.start : batch.images] + data[batch.images_end : batch.end])
    forged = dataclasses.replace(batch, sha256=hashlib.sha256(narrow).hexdigest())
    with pytest.raises(Damaged, match="Arrow can't read it"):
        shard_map.check_batch(pa.py_buffer(bytes(data)), forged)


@pytest.mark.parametrize("name", ["input_ids", "num_tokens", "image_sha256", "images"])
def test_rows_that_lack_something_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "shard.arrow"
    wrong = [*rows()[1:], {**rows()[0], name: [None] if name in {"image_sha256", "images"} else None}]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SHARD) as writer:
        writer.write_table(pa.Table.from_pylist(wrong, SHARD))
    with pytest.raises(Damaged, match=f"rows without {name}"):
        shard_map.check_batch(shard_map.mapped(path), shard_map.survey(path).batches[0])
