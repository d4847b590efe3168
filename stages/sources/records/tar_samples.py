"""Samples of a WebDataset tar: consecutive members whose names are equal up to the first dot of the last part.

`x/1.jpg` and `x/1.json` are the sample `x/1`; the folder is part of it. Extensions are all that follows the dot, in
lower case. Folders and macOS's `._` files belong to no sample. What the format cannot express is a reject and not a
guess: a member that stands twice in a sample, one that is a link or a device, one too large. Members of one sample
that are not side by side make several incomplete samples, as for every reader of the format; the adapter refuses those.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from stages.sources.records.json_spans import Span
from stages.sources.records.streams import Limits
from stages.sources.records.tars import members
from stages.sources.shapes.draft import BadRow

KEY = "__key__"
TEXTS = ("json", "txt")


def spans(stream: BinaryIO, path: Path, rows: int) -> Iterator[Span]:
    """The whole tar as spans of at most `rows` samples: header of the first to header of the next span's first."""
    begin = end = count = 0
    last = None
    for member in members(stream, path):
        if (name := _parts(member.name, member.isdir())) is None:
            continue
        if name[0] != last:
            if count == rows:
                yield Span(count, begin, member.offset)
                count = 0
            begin, count, last = begin if count else member.offset, count + 1, name[0]
        end = member.offset + 1
    if count:
        yield Span(count, begin, end)


def read(stream: BinaryIO, path: Path, span: Span, limits: Limits) -> Iterator[Any]:
    """The samples of a span: {KEY: key, extension: bytes, ...} or a BadRow."""
    key, sample = None, _Sample("", limits)
    for member in members(stream, path, span.begin, span.end):
        if (name := _parts(member.name, member.isdir())) is None:
            continue
        if name[0] != key:
            if key is not None:
                yield sample.done()
            key = name[0]
            sample = _Sample(key, limits)
        sample.add(member, name[1], stream)
    if key is not None:
        yield sample.done()


def _parts(name: str, folder: bool) -> tuple[str, str] | None:
    """(key, extension) of a member; None for what belongs to no sample."""
    place, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    if folder or base.startswith("._") or place.startswith("__MACOSX"):
        return None
    return place + slash + stem, extension.lower()


class _Sample:
    """One sample being read; the first thing wrong with it stays."""

    def __init__(self, key: str, limits: Limits) -> None:
        self._found: dict[str, Any] = {KEY: key}
        self._size, self._limits = 0, limits
        self._problem: BadRow | None = None

    def add(self, member: tarfile.TarInfo, extension: str, stream: BinaryIO) -> None:
        self._size += member.size
        self._problem = self._problem or self._judge(member, extension)
        if self._problem:
            self._found.clear()
            return
        stream.seek(member.offset_data)
        self._found[extension] = stream.read(member.size)

    def done(self) -> Any:
        return self._problem or self._found

    def _judge(self, member: tarfile.TarInfo, extension: str) -> BadRow | None:
        text = extension.rpartition(".")[2] in TEXTS
        if not member.isreg() or member.sparse is not None:
            return BadRow("malformed_record", f"{member.name!r} is a link, a device or a sparse file")
        if extension in self._found:
            return BadRow("malformed_record", f"{member.name!r} stands twice in its sample")
        if text and member.size > self._limits.text:
            return BadRow("row_too_large", f"{member.name!r} of {member.size:,} bytes, at most {self._limits.text:,}")
        if self._size > self._limits.row:
            return BadRow("row_too_large", f"members of {self._size:,} bytes in all, at most {self._limits.row:,}")
        return None
