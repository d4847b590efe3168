"""The structure of AVIF and JPEG 2000 files, walked before a decoder sees them.

Both are boxes, each with its length. Of AVIF the boxes must be whole until description and data are there; whether the
data reaches as far as the description says, libavif asks itself. A JPEG 2000 picture lies in one box, or alone: tile
after tile, in parts with a length. OpenJPEG paints a tile that is missing in black and says nothing, so every tile must
be there, with as many parts as it says, and each part must end in the file.
"""

from __future__ import annotations

import struct
from collections import Counter

BOX_AVIF, BOX_JP2, CODESTREAM = b"ftyp", b"jP  \r\n\x87\n", b"\xff\x4f\xff\x51"

_SIZ, _START_OF_TILE, _END = 0xFF51, 0xFF90, 0xFFD9


class Damage(ValueError):
    """The file's structure is broken: what was met, and where."""


def is_jpeg2000(data: bytes) -> bool:
    return data.startswith(CODESTREAM) or data[4:12] == BOX_JP2


def is_avif(data: bytes) -> bool:
    """By the brand, or by one of the brands that a picture of another first brand is compatible with."""
    size = int.from_bytes(data[:4], "big")
    return data[4:8] == BOX_AVIF and any(data[at : at + 4] in (b"avif", b"avis") for at in range(8, min(size, 256), 4))


def walk_avif(data: bytes) -> None:
    """Raise Damage for a file that is cut in a box; what follows the picture doesn't count."""
    at, missing = 0, {b"mdat", b"meta"}
    while missing:
        kind, _, end = _box(data, at, "AVIF")
        missing.discard(kind)
        at = end


def walk_jpeg2000(data: bytes) -> tuple[int, int]:
    """Width and height. Raises Damage unless every tile is there to its end."""
    begin, end = (0, len(data)) if data.startswith(CODESTREAM) else _picture_box(data)
    try:
        return _tiles(data, begin, end)
    except (struct.error, IndexError):
        raise Damage(f"JPEG 2000 that ends too early: {len(data):,} bytes") from None


def _picture_box(data: bytes) -> tuple[int, int]:
    at = 0
    while True:
        kind, begin, end = _box(data, at, "JPEG 2000")
        if kind == b"jp2c":
            return begin, end
        at = end


def _box(data: bytes, at: int, name: str) -> tuple[bytes, int, int]:
    """Kind of the box at a place, where its content begins and ends."""
    if at + 8 > len(data):
        raise Damage(f"{name} that ends too early: {len(data):,} bytes")
    size, kind = struct.unpack_from(">I4s", data, at)
    begin = at + 8
    if size == 1 and begin + 8 <= len(data):
        size, begin = int.from_bytes(data[begin : begin + 8], "big"), begin + 8
    end = len(data) if size == 0 else at + size
    if not begin <= end <= len(data):
        raise Damage(f"{name} cut in its box {kind!r} at byte {at:,}")
    return kind, begin, end


def _tiles(data: bytes, begin: int, end: int) -> tuple[int, int]:
    marker, _, _, wide, high, left, top, across, down, first, upper = struct.unpack_from(">HHH8I", data, begin + 2)
    if marker != _SIZ or not across or not down or wide <= left or high <= top:
        raise Damage("JPEG 2000 without the sizes of its picture and tiles")
    wanted = -(-(wide - first) // across) * -(-(high - upper) // down)
    at = begin + 2
    while (marker := _marker(data, at)) != _START_OF_TILE:
        if marker == _END:
            raise Damage("JPEG 2000 without a tile")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    found: Counter[int] = Counter()
    parts: dict[int, int] = {}
    while at < end and _marker(data, at) == _START_OF_TILE:
        tile, size, _, many = struct.unpack_from(">HIBB", data, at + 4)
        stop = at + size if size else _last(data, end)
        if not at + 12 < stop <= end:
            raise Damage(f"JPEG 2000 cut in its tile {tile:,} at byte {at:,}")
        found[tile] += 1
        parts[tile] = many or parts.get(tile, 0)
        at = stop
    short = [tile for tile, many in parts.items() if found[tile] < many]
    if len(found) < wanted or short:
        raise Damage(f"JPEG 2000 with {len(found) - len(short):,} whole tiles of {wanted:,}")
    return wide - left, high - top


def _marker(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">H", data, at)[0])


def _last(data: bytes, end: int) -> int:
    """Where a part without a length ends: at the end mark."""
    place = data.rfind(_END.to_bytes(2, "big"), 0, end)
    if place < 0:
        raise Damage("JPEG 2000 without its end mark")
    return place
