"""ROWS + the images of their part -> a batch of the shard: every image proven, its bytes copied once.

The rows say which images of which sample they have. Images come in tables of SAMPLE's column `images`, in the order of
the part; those that no row names are left out. Nothing is decoded. An image whose bytes are not those that ingest
hashed is an error: its size, which the tiles were planned by, would be another's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from schemas.sample import IMAGES
from schemas.shard import SHARD, SHARD_IMAGES


class Damaged(ValueError):
    """A sample is not what ingest made."""


class PartImages:
    """The images of a part from a sample on, read forwards. `tables` have the column `images`."""

    def __init__(self, tables: Iterator[pa.Table], first: int) -> None:
        self._tables, self._first = tables, first
        self._held: pa.ListArray = pa.array([], IMAGES)

    def of(self, start: int, end: int) -> pa.ListArray:
        """The images of samples [start, end), an entry each. Samples before `start` are not asked for again."""
        self._drop(start)
        while self._first + len(self._held) < end:
            table = next(self._tables, None)
            if table is None:
                raise Damaged(f"it has {self._first + len(self._held):,} samples, wanted {end:,}")
            column = table["images"].combine_chunks()
            self._held = pa.concat_arrays([self._held, column]) if len(self._held) else column
            self._drop(start)
        return self._held.slice(0, end - start)

    def _drop(self, start: int) -> None:
        passed = min(start - self._first, len(self._held))
        self._held, self._first = self._held.slice(passed), self._first + passed


def with_images(rows: pa.RecordBatch, images: PartImages) -> pa.RecordBatch:
    """A batch of the shard. `rows`: ROWS, in the order of their samples. Raises Damaged."""
    samples = rows["sample"].to_numpy()
    first = int(samples[0])
    given = images.of(first, int(samples[-1]) + 1)
    numbers = rows["image_numbers"]
    counts = numbers.value_lengths().to_numpy()
    starts = given.offsets.to_numpy()
    owner = np.repeat(samples - first, counts)
    places = starts[owner] + numbers.flatten().to_numpy()
    if (places >= starts[owner + 1]).any():
        raise Damaged("a sample has fewer images than its row names")
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    taken = pa.ListArray.from_arrays(offsets, given.values.take(pa.array(places)).cast(SHARD_IMAGES.value_type))
    _prove(taken.values.field("bytes"), rows)
    columns = {**{name: rows[name] for name in rows.schema.names}, "images": taken}
    return pa.RecordBatch.from_arrays([columns[name] for name in SHARD.names], schema=SHARD)


def _prove(images: pa.Array, rows: pa.RecordBatch) -> None:
    """Raise Damaged unless every image is the one that ingest looked at."""
    hashes = rows["image_sha256"]
    for number, wanted in enumerate(hashes.flatten().to_pylist()):
        if hashlib.sha256(images[number].as_buffer()).hexdigest() != wanted:
            row = int(np.searchsorted(hashes.offsets.to_numpy() - hashes.offsets[0].as_py(), number, "right")) - 1
            raise Damaged(f"{rows['sample_id'][row]}: an image has other bytes than its sha256 says")
