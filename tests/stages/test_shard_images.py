"""Rows get their images back: the right ones, whole and proven, however the part comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.shard import ROWS, SHARD
from stages.images.hashes import sha256
from stages.shard_images import Damaged, PartImages, with_images
from tests.stages.pictures import sample, table

# how many images each sample of a part has
PART = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def name(number: int, image: int) -> bytes:
    return f"image {image} of {number}".encode()


def part(numbers: list[int]) -> pa.Table:
    """Samples with so many images each."""
    rows = [sample(str(n)) for n in range(len(numbers))]
    for n, (row, images) in enumerate(zip(rows, numbers, strict=True)):
        row["images"] = [{"bytes": name(n, i), "path": f"{n}/{i}.png" if i else None} for i in range(images)]
    return table(*rows)


def rows(wanted: list[tuple[int, list[int]]]) -> pa.RecordBatch:
    """ROWS of (sample, its images)."""
    empty = {field.name: [] if pa.types.is_list(field.type) else None for field in ROWS}
    made: list[dict[str, Any]] = [
        {
            **empty,
            "sample_id": f"{number} {numbers}",
            "sample": number,
            "image_numbers": numbers,
            "image_sha256": [sha256(name(number, image)) for image in numbers],
        }
        for number, numbers in wanted
    ]
    return pa.RecordBatch.from_pylist(made, ROWS)


def cut(samples: pa.Table, size: int, first: int = 0) -> Iterator[pa.Table]:
    return (samples.select(["images"]).slice(start, size) for start in range(first, samples.num_rows, size))


@given(PART, st.integers(1, 5), st.integers(1, 4), st.data())
def test_every_row_has_the_images_that_it_names(numbers: list[int], size: int, batch: int, data: Any) -> None:
    """Dropped samples, pieces of samples, several rows of a sample, row groups and batches of any size."""
    samples = part(numbers)
    wanted = []
    for number, images in enumerate(numbers):
        for _ in range(data.draw(st.integers(0, 2))):
            chosen = data.draw(st.lists(st.integers(0, images - 1), max_size=4)) if images else []
            wanted.append((number, chosen))
    images = PartImages(cut(samples, size), 0)
    for start in range(0, len(wanted), batch):
        mine = wanted[start : start + batch]
        found = with_images(rows(mine), images)
        assert found.schema.equals(SHARD) and found.num_rows == len(mine)
        found.validate(full=True)
        for (number, chosen), row in zip(mine, found.to_pylist(), strict=True):
            assert row["images"] == [samples["images"][number].as_py()[image] for image in chosen]
            assert row["sample_id"] == f"{number} {chosen}"


def test_a_part_may_be_read_from_its_middle() -> None:
    samples = part([1, 2, 0, 3])
    images = PartImages(cut(samples, 2, 2), 2)
    (row,) = with_images(rows([(3, [2, 0])]), images).to_pylist()
    assert [image["bytes"] for image in row["images"]] == [name(3, 2), name(3, 0)]


def test_bytes_that_ingest_did_not_see_are_refused_with_their_sample() -> None:
    good = rows([(0, [0]), (1, [0, 1]), (2, [0])])
    wrong = good.set_column(
        good.schema.get_field_index("image_sha256"),
        "image_sha256",
        pa.array([[sha256(name(0, 0))], [sha256(name(1, 0)), sha256(b"another")], [sha256(name(2, 0))]]),
    )
    samples = part([1, 2, 1])
    assert with_images(good, PartImages(cut(samples, 3), 0)).num_rows == 3
    with pytest.raises(Damaged, match=r"^1 \[0, 1\]: an image has other bytes than its sha256 says$"):
        with_images(wrong, PartImages(cut(samples, 3), 0))


def test_a_part_with_fewer_samples_or_images_than_its_rows_name_is_damaged() -> None:
    with pytest.raises(Damaged, match="it has 2 samples, wanted 3"):
        with_images(rows([(2, [])]), PartImages(cut(part([1, 1]), 1), 0))
    with pytest.raises(Damaged, match="fewer images than its row names"):
        with_images(rows([(0, [1]), (1, [0])]), PartImages(cut(part([1, 1]), 2), 0))
