"""Finds the records of a file and reads a slice of them, so that one big file becomes many parts.

Parquet is sliced by rows; JSON arrays and JSON lines by byte spans, found in one bounded-memory pass. A record that
can't be parsed is a BadRow at its row; a file that can't be read at all is a DataError, because nobody knows what it
holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from stages.sources.draft import BadRow

SUFFIXES = (".parquet", ".json", ".jsonl")

_WINDOW = 8 * 1024 * 1024
_BLANK = " \t\r\n"
# strict=False: line breaks inside strings are common in scraped JSON and lose nothing
_DECODER = json.JSONDecoder(strict=False)


class DataError(ValueError):
    """A data file that can't be read: one line with the file, the place and what to do."""


@dataclass(frozen=True)
class Slice:
    """Rows [first, first + rows) of a file; for JSON the byte span of each of them."""

    file: str
    first: int
    rows: int
    spans: tuple[tuple[int, int], ...] = ()


def slices(path: Path, file: str, rows_per_part: int) -> list[Slice]:
    """Cut a file into slices of at most `rows_per_part` rows. Raises DataError."""
    if path.suffix == ".parquet":
        total = _parquet(path).metadata.num_rows
        starts = range(0, total, rows_per_part)
        return [Slice(file, start, min(rows_per_part, total - start)) for start in starts]
    with path.open("rb") as stream:
        spans = list(_lines(stream) if path.suffix == ".jsonl" else _elements(stream, path))
    groups = [spans[i : i + rows_per_part] for i in range(0, len(spans), rows_per_part)]
    return [Slice(file, i * rows_per_part, len(group), tuple(group)) for i, group in enumerate(groups)]


def read(path: Path, part: Slice) -> Iterator[tuple[int, Any]]:
    """(row, record) of a slice; a record that can't be parsed comes as a BadRow instance."""
    return _read_parquet(path, part) if path.suffix == ".parquet" else _read_json(path, part)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
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
    for batch in file.iter_batches(batch_size=64, row_groups=groups):
        wanted = range(max(part.first - start, 0), min(end - start, batch.num_rows))
        if wanted:
            for offset, record in zip(wanted, batch.slice(wanted.start, len(wanted)).to_pylist(), strict=True):
                yield start + offset, record
        start += batch.num_rows


def _read_json(path: Path, part: Slice) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as stream:
        for row, (start, end) in enumerate(part.spans, part.first):
            stream.seek(start)
            try:
                yield row, _DECODER.decode(stream.read(end - start).decode("utf-8"))
            except (ValueError, RecursionError) as error:
                yield row, BadRow("malformed_record", f"not JSON: {error}")


def _lines(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """Byte spans of the lines that aren't blank."""
    start = 0
    for line in stream:
        if line.strip():
            yield start, start + len(line)
        start += len(line)


def _elements(stream: BinaryIO, path: Path) -> Iterator[tuple[int, int]]:
    """Byte spans of the elements of a top-level array.

    JSON's structure is ASCII, so the bytes are scanned as Latin-1: one character is one byte, and the C scanner of the
    standard library finds where an element ends. The window slides; it grows only for an element larger than itself.
    """
    window = _Window(stream)
    if window.next_character() != "[":
        raise DataError(
            f"{path}: wanted a JSON array of records at the top; put the records in [...] or in a .jsonl file"
        )
    window.position += 1
    while (character := window.next_character()) != "]":
        if character == ",":
            window.position += 1
            continue
        end = window.element_end(path)
        yield window.base + window.position, window.base + end
        window.position = end


class _Window:
    """A stretch of a JSON file as Latin-1 text; `base` is its byte offset, `position` the reading place in it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.base, self.position, self.text, self.done = stream, 0, 0, "", False
        if self._grow() and self.text.startswith("\xef\xbb\xbf"):
            self.position = 3

    def next_character(self) -> str:
        """The next character that isn't blank, without consuming it; '' at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in _BLANK:
                self.position += 1
            if self.position < len(self.text):
                return self.text[self.position]
            if not self._grow():
                return ""

    def element_end(self, path: Path) -> int:
        """Where the element at `position` ends. Raises DataError if the file is broken there."""
        while True:
            try:
                end = _DECODER.raw_decode(self.text, self.position)[1]
                if end < len(self.text) or self.done:
                    return end
                problem = "the array does not end"
            except RecursionError:
                raise DataError(f"{path}: nested too deeply at byte {self.base + self.position:,}") from None
            except json.JSONDecodeError as error:
                problem = str(error.msg)
            if not self._grow():
                place = self.base + self.position
                raise DataError(
                    f"{path}: broken JSON in the record at byte {place:,} ({problem}); fetch the file again"
                )

    def _grow(self) -> bool:
        """Drop what was read, add the next stretch; False at the end of the file."""
        data = self.stream.read(_WINDOW)
        self.text, self.base = self.text[self.position :] + data.decode("latin-1"), self.base + self.position
        self.position, self.done = 0, not data
        return bool(data)
