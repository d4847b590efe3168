"""Records of a JSON array or of JSON lines: their byte spans, found in one pass in bounded memory.

A slice is a span of whole records. Reading it scans the span again, so a list of slices stays short however many
records a file has. JSON's structure is ASCII, so arrays are scanned as Latin-1: one character is one byte, and the C
scanner of the standard library finds where an element ends. The window slides; it grows only for an element larger
than itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from stages.sources.draft import BadRow
from stages.sources.streams import MAX_RECORD_BYTES, DataError

_WINDOW = 8 * 1024 * 1024
_BLANK = " \t\r\n"
_BOM = b"\xef\xbb\xbf"
# strict=False: line breaks inside strings are common in scraped JSON and lose nothing
_DECODER = json.JSONDecoder(strict=False)
# Finds where an element ends; numbers stay text, because int() refuses more than 4300 digits.
_SCANNER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)


class Span(NamedTuple):
    """Bytes [begin, end) of `rows` whole records; an array's span ends one byte later, on what follows."""

    rows: int
    begin: int
    end: int


def parse(data: bytes) -> Any:
    """One record, or the BadRow that its bytes are."""
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return BadRow("malformed_record", f"not JSON: {error}")


def spans(stream: BinaryIO, path: Path, lines: bool, rows: int) -> Iterator[Span]:
    """The whole file as spans of at most `rows` records. Raises DataError for a broken array."""
    begin = end = count = 0
    for start, stop in _lines(stream) if lines else _elements(stream, path):
        if count == rows:
            yield Span(count, begin, end)
            count = 0
        begin, end, count = begin if count else start, stop, count + 1
    if count:
        yield Span(count, begin, end)


def read_lines(stream: BinaryIO, span: Span) -> Iterator[Any]:
    """The records of a span of lines."""
    for start, stop in _lines(stream, span.begin, span.end):
        if stop - start > MAX_RECORD_BYTES:
            yield BadRow("malformed_record", f"a line of {stop - start:,} bytes, at most {MAX_RECORD_BYTES:,}")
            continue
        stream.seek(start)
        yield parse(stream.read(stop - start))


def read_elements(stream: BinaryIO, path: Path, span: Span) -> Iterator[Any]:
    """The records of a span of an array."""
    window = _Window(stream, span.begin, span.end)
    for number in range(span.rows):
        if number:
            window.next_character()
            window.position += 1
            window.next_character()
        end = window.element_end(path)
        yield parse(window.text[window.position : end].encode("latin-1"))
        window.position = end


def _lines(stream: BinaryIO, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
    """Byte spans of the lines that aren't blank. The caller may move the stream between two of them."""
    while stop is None or start < stop:
        stream.seek(start)
        line = stream.readline(_WINDOW)
        begin, end = start, start + len(line)
        if start == 0 and line.startswith(_BOM):
            begin, line = len(_BOM), line[len(_BOM) :]
        blank = not line.strip()
        while line and not line.endswith(b"\n") and (line := stream.readline(_WINDOW)):
            end, blank = end + len(line), blank and not line.strip()
        if end == start:
            return
        if not blank:
            yield begin, end
        start = end


def _elements(stream: BinaryIO, path: Path) -> Iterator[tuple[int, int]]:
    """Byte spans of the elements of a top-level array, each with the byte that follows."""
    window = _Window(stream)
    if window.next_character() != "[":
        raise DataError(
            f"{path}: wanted a JSON array of records at the top; put the records in [...] or in a .jsonl file"
        )
    window.position += 1
    if window.next_character() != "]":
        while True:
            end = window.element_end(path)
            yield window.base + window.position, window.base + end + 1
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

    def __init__(self, stream: BinaryIO, begin: int = 0, end: int | None = None) -> None:
        self.stream, self.base, self.position, self.text, self.done = stream, begin, 0, "", False
        self._end = end
        stream.seek(begin)
        if begin == 0:
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
            if len(self.text) - self.position > MAX_RECORD_BYTES:
                raise self.broken(path, f"{problem} within {MAX_RECORD_BYTES:,} bytes")
            if not self._grow():
                raise self.broken(path, problem)

    def broken(self, path: Path, problem: str) -> DataError:
        """The error for JSON that is broken at `position`."""
        place = self.base + self.position
        return DataError(f"{path}: broken JSON in the record at byte {place:,} ({problem}); fetch the file again")

    def _grow(self) -> bool:
        """Drop what was read, add the next stretch; False at the end of the file, or of the span."""
        left = _WINDOW if self._end is None else self._end - self.base - len(self.text)
        data = self.stream.read(min(_WINDOW, left))
        self.text, self.base = self.text[self.position :] + data.decode("latin-1"), self.base + self.position
        self.position, self.done = 0, not data
        return bool(data)
