"""Finds the records of a file and reads a slice of them, so that one big file becomes many parts.

Parquet is sliced by rows; JSON arrays, JSON lines and WebDataset tars by byte spans, found in one bounded-memory pass.
JSON and tars may be compressed (.gz, .zst). A record that can't be parsed is a BadRow at its row; a file that can't be
read at all is a DataError, because nobody knows what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.sources import json_records, tar_records
from stages.sources.draft import BadRow
from stages.sources.json_records import Span
from stages.sources.streams import CODECS, DataError, opened

_PACKED = tuple(kind + codec for kind in (".json", ".jsonl", ".tar") for codec in CODECS)
SUFFIXES = (".parquet", ".json", ".jsonl", *(suffix for suffix in _PACKED if not suffix.startswith(".tar")))
TAR_SUFFIXES = (".tar", *(suffix for suffix in _PACKED if suffix.startswith(".tar")))

# Pages are read through a buffer, one after the other: a row group may hold gigabytes of images. Both settings are
# needed; with either alone pyarrow 26 holds the whole column of the row group.
_BUFFER = 1024 * 1024


@dataclass(frozen=True)
class Slice:
    """Rows [first, first + rows) of a file; bytes [begin, end) of it, where it isn't parquet."""

    file: str
    first: int
    rows: int
    begin: int = 0
    end: int = 0


def kind(name: str) -> str:
    """ "parquet", "json", "jsonl" or "tar"; whatever stands last, for a file of no such kind."""
    path = Path(name)
    return Path(path.stem if path.suffix in CODECS else name).suffix.removeprefix(".")


def slices(path: Path, file: str, rows_per_part: int) -> list[Slice]:
    """Cut a file into slices of at most `rows_per_part` rows. Raises DataError."""
    if kind(path.name) == "parquet":
        total = _parquet(path).metadata.num_rows
        starts = range(0, total, rows_per_part)
        return [Slice(file, start, min(rows_per_part, total - start)) for start in starts]
    found, first = [], 0
    for span in _spans(path, rows_per_part):
        found.append(Slice(file, first, *span))
        first += span.rows
    return found


def read(path: Path, part: Slice) -> Iterator[tuple[int, Any]]:
    """(row, record) of a slice; a record that can't be parsed comes as a BadRow instance."""
    if kind(path.name) == "parquet":
        return _read_parquet(path, part)
    return enumerate(_read_span(path, Span(part.rows, part.begin, part.end)), part.first)


def first_records(path: Path, parts: Sequence[Slice], files: int = 16, rows: int = 64) -> Iterator[Any]:
    """Some records of a file from all over it: a few of each of a few of its slices."""
    step = max(1, len(parts) // files)
    for part in parts[::step]:
        yield from (record for _, record in islice(read(path, part), rows))


def head(path: Path, rows: int) -> list[Any]:
    """The first records of a file, without looking at the rest of it."""
    if kind(path.name) == "parquet":
        return [record for _, record in _read_parquet(path, Slice(path.name, 0, rows))]
    span = next(_spans(path, rows), None)
    return [] if span is None else list(_read_span(path, span))


def parquet_columns(path: Path) -> list[str]:
    """The names of a parquet file's top-level columns."""
    return list(_parquet(path).schema_arrow.names)


def _spans(path: Path, rows: int) -> Iterator[Span]:
    with opened(path) as stream:
        if kind(path.name) == "tar":
            yield from tar_records.spans(stream, path, rows)
        else:
            yield from json_records.spans(stream, path, kind(path.name) == "jsonl", rows)


def _read_span(path: Path, span: Span) -> Iterator[Any]:
    with opened(path) as stream:
        if kind(path.name) == "tar":
            yield from tar_records.read(stream, path, span)
        elif kind(path.name) == "jsonl":
            yield from json_records.read_lines(stream, span)
        else:
            yield from json_records.read_elements(stream, path, span)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({error}); fetch it again") from None


def _read_parquet(path: Path, part: Slice) -> Iterator[tuple[int, Any]]:
    file = _parquet(path)
    end = part.first + part.rows
    groups: list[int] = []
    start = row = 0
    for number in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(number).num_rows
        if row < end and row + rows > part.first:
            start = row if not groups else start
            groups.append(number)
        row += rows
    batches = file.iter_batches(batch_size=64, row_groups=groups)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path}: damaged at row {start:,} ({error}); fetch it again") from None
        if batch is None:
            return
        wanted = range(max(part.first - start, 0), min(end - start, batch.num_rows))
        if wanted:
            for offset, record in zip(wanted, _records(batch.slice(wanted.start, len(wanted))), strict=True):
                yield start + offset, record
        start += batch.num_rows


def _records(batch: pa.RecordBatch) -> list[Any]:
    """The rows of a batch; one with a value that Python can't hold (text that isn't UTF-8) is a BadRow."""
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            return [BadRow("malformed_record", f"a value can't be read: {error}")]
        return [record for row in range(batch.num_rows) for record in _records(batch.slice(row, 1))]
