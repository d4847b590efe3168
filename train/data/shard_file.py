"""One shard file, memory-mapped: its rows, each proven before it is used.

Nothing of a shard is parsed before its hash is known to be right: the map beside it (schemas/shard_map.py) against the
manifest when the file is opened, a batch's narrow bytes against the map before the batch is first used, an image's
bytes against `image_sha256` whenever they are read to be decoded. There is no way around it and nothing to switch on:
a wrong bit is an error of one line, never a crash and never a sample.
"""

from __future__ import annotations

import hashlib
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import manifest, shard_map
from schemas.manifest import FileEntry, ManifestError
from schemas.shard_map import Batch, Damaged
from train.data import left_out

_CURE = "delete this file and run the pipeline again, which writes it anew"


class Row:
    """A row of a batch: what is asked of it is read where it lies."""

    def __init__(self, batch: pa.RecordBatch, number: int) -> None:
        self._batch, self._number = batch, number

    def __getitem__(self, name: str) -> Any:
        """A value as Python has it."""
        return self._batch[name][self._number].as_py()

    def values(self, name: str) -> pa.Array:
        """The values of a list, as Arrow has them."""
        return self._batch[name][self._number].values

    @property
    def images(self) -> tuple[memoryview, ...]:
        """The encoded images: views of the mapped file."""
        found = self.values("images").field("bytes")
        return tuple(memoryview(found[number].as_buffer()).cast("B") for number in range(len(found)))


class ShardFile:
    """Opened: its map and what is around its batches are proven. `checked`: the numbers of proven batches."""

    def __init__(self, folder: Path, entry: FileEntry, beside: FileEntry, checked: set[int]) -> None:
        self.path = folder / entry.name
        self._map = _read_map(folder, beside)
        self._data = _mapped(self.path, entry.size)
        self._checked, self._batches = checked, dict[int, pa.RecordBatch]()
        self._ends = np.cumsum([batch.rows for batch in self._map.batches], dtype=np.int64)
        try:
            shard_map.check_rest(self._data, self._map)
        except Damaged as error:
            raise ManifestError(f"{self.path}: {error}; {_CURE}") from None

    @property
    def num_rows(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def row(self, number: int) -> Row:
        """A row of SHARD, of those there are; nothing of it is copied. Raises ManifestError."""
        at = int(np.searchsorted(self._ends, number, side="right"))
        batch = self._map.batches[at]
        first = int(self._ends[at]) - batch.rows
        if at not in self._batches:
            self._check(at, batch, first)
            self._batches[at] = shard_map.read_batch(self._data, batch)
        row = Row(self._batches[at], number - first)
        self._check_images(row, f"batch {at}, row {number}")
        return row

    def _check(self, number: int, batch: Batch, first: int) -> None:
        if number in self._checked:
            return
        try:
            shard_map.check_batch(self._data, batch)
        except Damaged as error:
            where = f"batch {number} (rows {first} to {first + batch.rows - 1})"
            raise ManifestError(f"{self.path}: {where}: {error}; {_CURE}") from None
        self._checked.add(number)

    def _check_images(self, row: Row, where: str) -> None:
        hashes = [hashlib.sha256(image).hexdigest() for image in row.images]
        told = row.values("image_sha256").to_pylist()
        wrong = [number for number, pair in enumerate(zip_longest(hashes, told)) if pair[0] != pair[1]]
        if wrong:
            raise ManifestError(
                f"{self.path}: {where} ({row['sample_id']}): the bytes of image {wrong[0]} differ from its sha256; "
                f"{_CURE}, or {left_out.CURE}"
            )


def _read_map(folder: Path, entry: FileEntry) -> shard_map.ShardMap:
    manifest.check_file(folder, entry)
    try:
        return shard_map.from_json((folder / entry.name).read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(f"{folder / entry.name}: not the map of a shard ({error}); run pretokenise again") from None


def _mapped(path: Path, size: int) -> pa.Buffer:
    try:
        data = shard_map.mapped(path)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: can't be read ({error}); {_CURE}") from None
    if len(data) != size:
        raise ManifestError(f"{path}: {len(data):,} bytes, the manifest promises {size:,}; {_CURE}")
    return data
