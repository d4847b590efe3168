"""Images in a zip or a tar, by the name of the member; nothing is unpacked, and no link is followed.

A zip has its own index. A tar has none: its headers are walked once per process, and what stays in memory is name,
place and size of every member. A compressed tar can only be read from its beginning, so it is refused: decompress it
once, instead of once for every image. A name that stands twice in one archive is its last member, as for unpackers.
"""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from stages.images.rules import BadImage
from stages.sources.archives.split import SPLIT_ZIP, Joined
from stages.sources.records.streams import DataError
from stages.sources.records.tars import members

COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")
WHOLE = (".zip", ".tar", *COMPRESSED)

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_ENCRYPTED = 0x1

# What the zip reader raises on damaged, encrypted or oddly compressed members
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    NotImplementedError,
    RuntimeError,
    EOFError,
)


class ZipImages:
    """The members of a zip, split or whole."""

    def __init__(self, parts: Sequence[str], max_bytes: int) -> None:
        self._max_bytes = max_bytes
        stream, raw = Joined.open(parts)
        try:
            self._zip = zipfile.ZipFile(stream)
            if SPLIT_ZIP.fullmatch(parts[0]):
                _place_by_disk(self._zip, stream, raw)
        except (*_ZIP_ERRORS, struct.error, ValueError, IndexError) as error:
            stream.close()
            # Python reads no split zip in the 64-bit form, which takes more than 65,535 members
            hint = f"; join it: zip -s 0 {parts[-1]} --out joined.zip" if len(parts) > 1 else "; fetch it again"
            raise DataError(f"{parts[-1]}: not a readable zip archive ({error}){hint}") from None

    def read(self, name: str) -> bytes | None:
        """A member's bytes; None if there is none of that name. Raises BadImage."""
        try:
            member = self._zip.getinfo(name)
        except KeyError:
            return None
        if member.is_dir() or stat.S_ISLNK(member.external_attr >> 16):
            raise BadImage("image_missing", f"{name!r} is a folder or a link in the archive, not a file")
        check_size(name, member.file_size, self._max_bytes)
        if member.flag_bits & _ENCRYPTED:
            raise BadImage("image_unreadable", f"{name[:80]!r} is encrypted in the archive; make one without password")
        try:
            with self._zip.open(member) as stream:
                return stream.read(member.file_size + 1)  # bounds what it inflates to, whatever it says
        except _ZIP_ERRORS as error:
            what = str(error) or "it ends early"
            raise BadImage("image_unreadable", f"{name[:80]!r} can't be read from the archive: {what}") from None

    def close(self) -> None:
        # ZipFile closes only files that it opened itself
        stream = self._zip.fp
        self._zip.close()
        if stream is not None:
            stream.close()


class TarImages:
    """The members of a tar, split or whole, found by one walk through its headers."""

    def __init__(self, parts: Sequence[str], max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._stream, _ = Joined.open(parts)
        self._index: dict[str, tuple[int, int] | None] = {}
        try:
            _refuse_compressed(self._stream, parts)
            for member in members(self._stream, Path(parts[0])):
                plain = member.isreg() and member.sparse is None
                place = (member.offset_data, member.size) if plain else None
                self._index[member.name.removeprefix("./")] = place
        except DataError:
            self._stream.close()
            raise

    def read(self, name: str) -> bytes | None:
        """A member's bytes; None if there is none of that name. Raises BadImage."""
        if name not in self._index:
            return None
        place = self._index[name]
        if place is None:
            raise BadImage("image_missing", f"{name!r} is a folder, a link or a device in the archive, not a file")
        offset, size = place
        check_size(name, size, self._max_bytes)
        self._stream.seek(offset)
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()


def open_archive(parts: Sequence[str], max_bytes: int) -> ZipImages | TarImages:
    """The archive that these files are, by name or, where the name says nothing, by content. Raises DataError."""
    if parts[-1].lower().endswith(".zip") or (not parts[0].lower().endswith(WHOLE) and _start(parts[0]) == b"PK"):
        return ZipImages(parts, max_bytes)
    return TarImages(parts, max_bytes)


def check_size(name: str, size: int, max_bytes: int) -> None:
    """Raise BadImage for a file too large to be read."""
    if size > max_bytes:
        raise BadImage("image_too_large", f"{name!r} has {size:,} bytes, at most {max_bytes:,}")


def _start(path: str) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            return stream.read(2)
    except OSError:
        return b""  # opening it again says what is wrong


def _refuse_compressed(stream: BinaryIO, parts: Sequence[str]) -> None:
    head = stream.read(6)
    kind = next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), None)
    if kind is not None:
        which = parts[0] if len(parts) == 1 else f"{parts[0]} ... {parts[-1]}"
        raise DataError(
            f"{which}: a tar inside {kind}, where an image is found only by reading all before it; decompress it to "
            "a plain .tar, or unpack it into a folder"
        )


def _place_by_disk(archive: zipfile.ZipFile, stream: BinaryIO, raw: Joined) -> None:
    """A split zip counts every offset from the beginning of the part it lies in; count them from the first."""
    stream.seek(max(0, raw.size - 22 - 65535))
    tail = stream.read()
    (directory,) = struct.unpack_from("<L", tail, tail.rindex(b"PK\5\6") + 16)
    shift = archive.start_dir - directory  # what Python added to every offset
    for member in archive.infolist():
        member.header_offset += raw.starts[member.volume] - shift
