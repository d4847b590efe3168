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
_BOM = b"\xef\xbb\xbf"
# strict=False: line breaks inside strings are common in scraped JSON and lose nothing
_DECODER = json.JSONDecoder(strict=False)
# Finds where an element ends; numbers stay text, because int() refuses more than 4300 digits.
_SCANNER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)


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
        begin = len(_BOM) if start == 0 and line.startswith(_BOM) else 0
        if line[begin:].strip():
            yield start + begin, start + len(line)
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
    if window.next_character() != "]":
        while True:
            end = window.element_end(path)
            yield window.base + window.position, window.base + end
            window.position = end
            if (separator := window.next_character()) == "]":
                break
            if separator != ",":
                raise window.broken(path, "wanted ',' or ']' after a record")
            window.position += 1
            window.next_character()
    window.position += 1
    if window.next_character():
        raise window.broken(path, "something follows the array of records")


class _Window:
    """A stretch of a JSON file as Latin-1 text; `base` is its byte offset, `position` the reading place in it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.base, self.position, self.text, self.done = stream, 0, 0, "", False
        while self._grow() and len(self.text) < len(_BOM):
            pass
        if self.text.startswith(_BOM.decode("latin-1")):
            self.position = len(_BOM)

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
                end = _SCANNER.raw_decode(self.text, self.position)[1]
                # A number may go on beyond the window: `1` before `.5` or `e5`
                if end < len(self.text) and (self.text[end] not in ".eE" or self.done):
                    return end
                problem = "the array does not end"
            except RecursionError:
                raise DataError(f"{path}: nested too deeply at byte {self.base + self.position:,}") from None
            except json.JSONDecodeError as error:
                problem = str(error.msg)
            if not self._grow():
                raise self.broken(path, problem)

    def broken(self, path: Path, problem: str) -> DataError:
        """The error for JSON that is broken at `position`."""
        place = self.base + self.position
        return DataError(f"{path}: broken JSON in the record at byte {place:,} ({problem}); fetch the file again")

    def _grow(self) -> bool:
        """Drop what was read, add the next stretch; False at the end of the file."""
        data = self.stream.read(_WINDOW)
        self.text, self.base = self.text[self.position :] + data.decode("latin-1"), self.base + self.position
        self.position, self.done = 0, not data
        return bool(data)
