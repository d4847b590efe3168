"""Records of a JSON array or of JSON lines: their byte spans, found in one pass in bounded memory.

A slice is a span of whole records. Reading it scans the span again, so a list of slices stays short however many
records a file has. JSON's structure is ASCII, so arrays are scanned as Latin-1: one character is one byte. The C
scanner of the standard library finds where an element ends; where it can't (an element that goes on beyond the window,
or is no JSON) brackets and quotes are walked, which is slower. So an element that is no JSON costs its row, and only
one whose end can't be told costs the file. Nothing is read twice.

A `.json` file is an array of records, or records one after the other (`datasets` writes JSON lines under that name).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from stages.sources.records.streams import DataError, Limits
from stages.sources.shapes.draft import BadRow

_WINDOW = 8 * 1024 * 1024
_ERRORS = 64  # elements of a window that the scanner may give up on; those after them are walked
_BOM = b"\xef\xbb\xbf"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping, each of whose keys is given once: of two, nobody knows which is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} is given twice")
    return found


# strict=False: line breaks inside strings are common in scraped JSON and lose nothing
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_once)
# Finds where an element ends; numbers stay text, because int() refuses more than 4300 digits.
_SCANNER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)
_BLANKS = re.compile(r"[ \t\r\n]*+")
_WORD = re.compile(r'[^][{}",\s]*+')  # a number or a literal, or what stands in its place
_STRING = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)  # up to the quote that ends it
_INNER = re.compile(r'[^][{}"]*+')


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
        return BadRow("malformed_record", f"not JSON that can be read: {error}")


def spans(stream: BinaryIO, path: Path, lines: bool, rows: int) -> Iterator[Span]:
    """The whole file as spans of at most `rows` records. Raises DataError for an array whose records can't be told."""
    begin = end = count = 0
    found = _lines(stream, path, Span(0, 0, 0), 0) if lines else _elements(stream, path)
    for start, stop, _ in found:
        if count == rows:
            yield Span(count, begin, end)
            count = 0
        begin, end, count = begin if count else start, stop, count + 1
    if count:
        yield Span(count, begin, end)


def read_lines(stream: BinaryIO, path: Path, span: Span, limits: Limits) -> Iterator[Any]:
    """The records of a span of lines."""
    for start, stop, line in _lines(stream, path, span, limits.text):
        yield _record(line, stop - start, limits)


def read_elements(stream: BinaryIO, path: Path, span: Span, limits: Limits) -> Iterator[Any]:
    """The records of a span of an array."""
    window = _Window(stream, path, limits.text, span.begin, span.end)
    for number in range(span.rows):
        if number and window.next_character() == ",":
            window.position += 1
            window.next_character()
        start, stop, text = window.element()
        yield _record(text.encode("latin-1"), stop - start, limits)


def _record(data: bytes, size: int, limits: Limits) -> Any:
    if size > limits.text:
        return BadRow("row_too_large", f"JSON of {size:,} bytes, at most {limits.text:,}")
    return parse(data)


def _lines(stream: BinaryIO, path: Path, span: Span, most: int) -> Iterator[tuple[int, int, bytes]]:
    """(begin, end, bytes) of the lines that aren't blank, in a span or in all of the stream; no bytes above `most`."""
    start = span.begin
    stream.seek(start)
    while not span.end or start < span.end:
        end, line, blank = start, b"", True
        while piece := stream.readline(_WINDOW):
            if end == 0:
                _refuse_wide(piece[:2], path)
                start, piece = (len(_BOM), piece[len(_BOM) :]) if piece.startswith(_BOM) else (0, piece)
                end = start
            end += len(piece)
            blank = blank and not piece.strip()
            line = line + piece if end - start <= most else b""
            if piece.endswith(b"\n"):
                break
        if end == start:
            return
        if not blank:
            yield start, end, line
        start = end


def _refuse_wide(head: bytes, path: Path) -> None:
    """Raise DataError for UTF-16, with its mark or without: every other byte of its brackets is zero."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(head) == 2 and sum(map(bool, head)) == 1):
        raise DataError(f"{path}: JSON in UTF-16 or UTF-32, wanted UTF-8; convert it: iconv -f UTF-16 -t UTF-8")


def _elements(stream: BinaryIO, path: Path) -> Iterator[tuple[int, int, str]]:
    """(begin, end, no text) of the records, each with the byte that follows."""
    window = _Window(stream, path, 0)
    first = window.next_character()
    if first not in ("[", "{"):
        raise DataError(f"{path}: wanted an array of records, or records one after the other; it begins with {first!r}")
    window.position += first == "["
    while (character := window.next_character()) and (character != "]" or first == "{"):
        start, stop, _ = window.element()
        yield start, stop + 1, ""
        if first == "[" and window.next_character() != "]":
            window.pass_comma()
    if first == "{":
        return
    if not character:
        raise window.broken(window.place, "the array does not end")
    window.position += 1
    if window.next_character():
        raise window.broken(window.place, "something follows the array of records")


class _Window:
    """A stretch of a JSON file as Latin-1 text; `base` is its byte offset, `position` the reading place in it.

    Elements of at most `most` bytes are given out as text; of a longer one the stretches are forgotten as they pass.
    """

    def __init__(self, stream: BinaryIO, path: Path, most: int, begin: int = 0, end: int | None = None) -> None:
        self.stream, self.path, self.base, self.position, self.text = stream, path, begin, 0, ""
        self._most, self._end, self._errors = most, end, 0
        stream.seek(begin)
        if begin == 0:
            while len(self.text) < len(_BOM) and self._grow():
                pass
            _refuse_wide(self.text[:2].encode("latin-1"), path)
            if self.text.startswith(_BOM.decode("latin-1")):
                self.position = len(_BOM)

    def next_character(self) -> str:
        """The next character that isn't blank, without consuming it; '' at the end."""
        while True:
            self.position = _end(_BLANKS, self.text, self.position)
            if self.position < len(self.text):
                return self.text[self.position]
            if not self._grow():
                return ""

    @property
    def place(self) -> int:
        """The byte of the file at `position`."""
        return self.base + self.position

    def pass_comma(self) -> None:
        """Go to the record behind the comma. Raises DataError where there is no comma, or no record."""
        if (found := self.next_character()) != ",":
            raise self.broken(self.place, f"{found!r}, wanted ',' or ']'" if found else "the array does not end")
        self.position += 1
        if self.next_character() == "]":
            raise self.broken(self.place, "']', wanted a record after the comma")

    def element(self) -> tuple[int, int, str]:
        """(begin, end, text) of the element at `position`, which moves behind it. Raises DataError."""
        begin = self.place
        stop = self._scanned() or self._walked(begin)
        text = self.text[self.position : stop - self.base] if stop - begin <= self._most else ""
        self.position = stop - self.base
        return begin, stop, text

    def _scanned(self) -> int | None:
        """Where the array, mapping or text at `position` ends, if it is JSON and all of it is here.

        The scanner's errors count the lines of all the text before them. After a few in a window it isn't asked again.
        """
        if self._errors == _ERRORS or self.text[self.position : self.position + 1] not in ("{", "[", '"'):
            return None
        try:
            return self.base + int(_SCANNER.raw_decode(self.text, self.position)[1])
        except (json.JSONDecodeError, RecursionError):
            self._errors += 1
            return None

    def _walked(self, begin: int) -> int:
        """Where the element that begins at `begin` ends, by its brackets and quotes alone."""
        at, depth, inside = begin, 0, False
        while True:
            pattern = _STRING if inside else _INNER if depth else _WORD
            place = _end(pattern, self.text, at - self.base)
            at = self.base + place
            if place == len(self.text) or self.text[place] == "\\":  # the window ends here, or in an escape
                self.position = place if at - begin > self._most else begin - self.base
                if not self._grow():
                    raise self.broken(begin, "the record that begins here does not end")
                continue
            character = self.text[place]
            if character == '"' and (inside or depth or at == begin):
                inside = not inside
            elif character in "[{" and (depth or at == begin):
                depth += 1
            elif character in "]}" and depth:
                depth -= 1
            elif at == begin:
                raise self.broken(begin, f"{character!r}, wanted a record")
            else:
                return at
            at += 1
            if not depth and not inside:
                return at

    def broken(self, place: int, problem: str) -> DataError:
        """The error for a file whose records can't be told from there on."""
        return DataError(f"{self.path}: broken JSON at byte {place:,} ({problem}); mend it or fetch the file again")

    def _grow(self) -> bool:
        """Drop what was read, add the next stretch; False at the end of the file, or of the span."""
        left = _WINDOW if self._end is None else self._end - self.base - len(self.text)
        data = self.stream.read(min(_WINDOW, left))
        self.text, self.base = self.text[self.position :] + data.decode("latin-1"), self.base + self.position
        self.position = self._errors = 0
        return bool(data)


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start
