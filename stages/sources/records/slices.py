"""Finds the records of a file and reads a slice of them, so that one big file becomes many parts.

Parquet is sliced by rows; JSON arrays, JSON lines and WebDataset tars by byte spans, found in one bounded-memory pass.
JSON and tars may be compressed (.gz, .zst). A record that can't be parsed is a BadRow at its row; a file that can't be
read at all is a DataError, because nobody knows what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from stages.sources.records import json_spans, parquet, tar_samples
from stages.sources.records.json_spans import Span
from stages.sources.records.parquet import Wanted, all_columns
from stages.sources.records.streams import CODECS, Limits, opened

_PACKED = tuple(kind + codec for kind in (".json", ".jsonl", ".tar") for codec in CODECS)
SUFFIXES = (".parquet", ".json", ".jsonl", *(suffix for suffix in _PACKED if not suffix.startswith(".tar")))
TAR_SUFFIXES = (".tar", *(suffix for suffix in _PACKED if suffix.startswith(".tar")))

READ_THROUGH = ("json", "jsonl")  # kinds of which every byte is read to find the records

LIMITS = Limits()


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


def compressed(path: Path) -> bool:
    """Whether a file can be read from its beginning alone."""
    return path.suffix in CODECS


def slices(path: Path, file: str, rows_per_part: int) -> list[Slice]:
    """Cut a file into slices of at most `rows_per_part` rows. Raises DataError."""
    if kind(path.name) == "parquet":
        total = parquet.count(path)
        starts = range(0, total, rows_per_part)
        return [Slice(file, start, min(rows_per_part, total - start)) for start in starts]
    found, first = [], 0
    for span in _spans(path, rows_per_part):
        found.append(Slice(file, first, *span))
        first += span.rows
    return found


def read(path: Path, part: Slice, limits: Limits = LIMITS, wanted: Wanted = all_columns) -> Iterator[tuple[int, Any]]:
    """(row, record) of a slice; a record that can't be parsed, or is too large, comes as a BadRow instance.

    `wanted`: the columns to read, where a file can be read by columns.
    """
    if kind(path.name) == "parquet":
        return parquet.read(path, part.first, part.rows, limits, wanted)
    return _numbered(_read_span(path, Span(part.rows, part.begin, part.end), limits), part.first)


def _numbered(records: Iterator[Any], first: int) -> Iterator[tuple[int, Any]]:
    """`enumerate`, but without holding a record while the next one is read: either may be large."""
    for row in count(first):
        try:
            yield row, next(records)
        except StopIteration:
            return


def first_records(path: Path, parts: Sequence[Slice], files: int = 16, rows: int = 64) -> Iterator[Any]:
    """Some records of a file from all over it: a few of each of a few of its slices."""
    step = max(1, len(parts) // files)
    for part in parts[::step]:
        yield from (record for _, record in islice(read(path, part), rows))


def unread(path: Path, wanted: Wanted) -> list[str]:
    """Columns of a file that are not even read."""
    return parquet.unread(path, wanted) if kind(path.name) == "parquet" else []


def head(path: Path, rows: int, wanted: Wanted | None = None) -> list[Any]:
    """The first records of a file, without looking at the rest of it; without its times unless columns are named."""
    if kind(path.name) == "parquet":
        wanted = wanted or parquet.without_times(path)
        return [record for _, record in parquet.read(path, 0, rows, LIMITS, wanted)]
    span = next(_spans(path, rows), None)
    return [] if span is None else list(_read_span(path, span, LIMITS))


def _spans(path: Path, rows: int) -> Iterator[Span]:
    with opened(path) as stream:
        if kind(path.name) == "tar":
            yield from tar_samples.spans(stream, path, rows)
        else:
            yield from json_spans.spans(stream, path, kind(path.name) == "jsonl", rows)


def _read_span(path: Path, span: Span, limits: Limits) -> Iterator[Any]:
    with opened(path) as stream:
        if kind(path.name) == "tar":
            yield from tar_samples.read(stream, path, span, limits)
        elif kind(path.name) == "jsonl":
            yield from json_spans.read_lines(stream, path, span, limits)
        else:
            yield from json_spans.read_elements(stream, path, span, limits)
