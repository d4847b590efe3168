"""Walks through a tar, header by header, in bounded memory; nothing is unpacked and no name is trusted.

Python's reader takes a damaged header for the end of the archive, reads extended headers of any size into memory, and
keeps every header it saw. Here the end must be an end mark with nothing behind it, extended headers are bounded, and
headers are forgotten as they pass.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from stages.sources.records.streams import DataError

_BLOCK = 512
_STRETCH = 1024 * 1024
# A member's name and attributes; a header that claims more is damage or an attack
_MAX_HEADER = 1024 * 1024


def members(stream: BinaryIO, path: Path, begin: int = 0, end: int | None = None) -> Iterator[tarfile.TarInfo]:
    """The members whose headers lie in [begin, end) of the stream; the caller may move it between two of them.

    Raises DataError for a tar that is damaged, cut off, or followed by something.
    """
    guarded = _Guarded(stream)
    at = begin
    try:
        stream.seek(begin)
        archive = tarfile.TarFile(fileobj=cast(Any, guarded), mode="r", errors="surrogateescape")
        while (member := archive.next()) is not None:
            if member.size < 0 or archive.offset <= at:
                raise tarfile.ReadError(f"a size of {member.size:,}")
            archive.members.clear()  # type: ignore[attr-defined]
            at = archive.offset
            yield member
            if end is not None and at >= end:
                return
        at = archive.offset
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, OSError, EOFError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a readable tar at byte {at:,} ({error}); fetch it again") from None
    _check_end(stream, path, at)


def _check_end(stream: BinaryIO, path: Path, at: int) -> None:
    """A tar ends with a block of zeros, and more zeros up to the end of the file."""
    stream.seek(at)
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        raise DataError(f"{path}: the tar ends without its end mark at byte {at:,}; it was cut off, fetch it again")
    while block:
        if block.strip(b"\0"):
            raise DataError(f"{path}: damaged header, or another archive, after byte {at:,}; fetch it again")
        block = stream.read(_STRETCH)


class _Guarded:
    """The stream as tarfile sees it: it only ever reads headers, so a long read is an attack."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"an extended header of {size:,} bytes")
        return self._stream.read(size)
