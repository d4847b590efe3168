"""The index of a shard folder, as far as the trainer needs it: where each sample lies, and its lengths.

Its bytes are proven by the manifest before (shards.py). Here it is proven that it makes sense: it names every kept
sample once, shard after shard and row after row, with counts that a sample can have. Each shard is compared with it
when that shard is opened, and each sample when it is read.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import fingerprints
from schemas.fingerprints import Fingerprints
from schemas.manifest import ManifestError
from schemas.shard import INDEX

_CURE = "run pretokenise again"


class Labels(NamedTuple):
    """A text of each sample: names in order, and the number of its name for each sample."""

    names: tuple[str, ...]
    codes: np.ndarray

    def at(self, rows: np.ndarray) -> Labels:
        """Those of some samples; names that none of them has are gone."""
        used, codes = np.unique(self.codes[rows], return_inverse=True)
        return Labels(tuple(self.names[number] for number in used), codes.astype(np.int32))


class Index(NamedTuple):
    """Arrays of one entry per sample: [number of samples] int32."""

    shard: np.ndarray
    row: np.ndarray
    num_tokens: np.ndarray
    num_target_tokens: np.ndarray
    num_tiles: np.ndarray
    source: Labels
    subset: Labels

    def rows_of(self, shard: int) -> int:
        """How many samples it has of a shard."""
        return int(np.searchsorted(self.shard, shard, "right") - np.searchsorted(self.shard, shard, "left"))

    def at(self, rows: np.ndarray) -> Index:
        """Some of its samples, in their order."""
        columns: list[Any] = [column.at(rows) if isinstance(column, Labels) else column[rows] for column in self]
        return Index(*columns)


def read(path: Path, rows: int, of: Fingerprints) -> Index:
    """The index of so many rows, made with that tokenizer and scheme. Raises ManifestError."""
    index = _read(path, of)
    next_row = (np.diff(index.shard) == 0) & (np.diff(index.row) == 1)
    next_shard = (np.diff(index.shard) > 0) & (index.row[1:] == 0)
    if len(index.row) != rows:
        raise ManifestError(f"{path}: {len(index.row):,} rows, the manifest says {rows:,}; {_CURE}")
    if index.row[:1].any() or not (next_row | next_shard).all():
        raise ManifestError(f"{path}: its rows don't follow each other; {_CURE}")
    if (index.num_tokens < 1).any() or (index.num_target_tokens < 0).any() or (index.num_tiles < 0).any():
        raise ManifestError(f"{path}: it has counts that no sample has; {_CURE}")
    return index


def _read(path: Path, of: Fingerprints) -> Index:
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(INDEX):
                raise ManifestError(f"{path}: its columns are not INDEX's; {_CURE}")
            found = fingerprints.read(file.schema_arrow)
            if found != of:
                why = found.differ(of) if found else "none"
                raise ManifestError(f"{path}: its lengths are of another {why} of the manifest; {_CURE}")
            numbers = [_column(path, file, name).to_numpy() for name in Index._fields[:-2]]
        with pq.ParquetFile(path, read_dictionary=list(Index._fields[-2:])) as file:
            labels = [_labels(_column(path, file, name)) for name in Index._fields[-2:]]
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: can't be read ({' '.join(str(error).split())}); {_CURE}") from None
    return Index(*numbers, *labels)


def find(path: Path, ids: Collection[str]) -> dict[str, list[int]]:
    """The rows of samples by their ids, of those that are there; a piece of the index is in memory at a time."""
    wanted, found, first = pa.array(sorted(ids), pa.string()), dict[str, list[int]](), 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["sample_id"]):
            for row in np.flatnonzero(pc.is_in(batch["sample_id"], wanted).to_numpy(zero_copy_only=False)).tolist():
                found.setdefault(batch["sample_id"][row].as_py(), []).append(first + row)
            first += len(batch)
    return found


def _column(path: Path, file: pq.ParquetFile, name: str) -> pa.ChunkedArray:
    """One column at a time: of 33 million rows all at once would be held twice."""
    column = file.read([name])[name]
    if column.null_count:
        raise ManifestError(f"{path}: it has rows without {name}; {_CURE}")
    return column


def _labels(column: pa.ChunkedArray) -> Labels:
    column = column.unify_dictionaries()
    if not len(column):
        return Labels((), np.empty(0, np.int32))
    found = np.array(column.chunk(0).dictionary.to_pylist(), object)
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in column.chunks])
    used = np.unique(codes)
    names, numbers = np.unique(found[used], return_inverse=True)
    ranked = np.zeros(len(found), np.int32)
    ranked[used] = numbers
    return Labels(tuple(names.tolist()), ranked[codes])
