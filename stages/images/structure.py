"""What an image file says of its own structure, read before a decoder sees it.

Decoders forgive: Pillow checks no checksum of PNG's pixel data, takes an animation that is cut after its first frame
for whole, believes what an animated PNG claims of its frames, and makes room for a GIF's frames before anyone can ask
how large they are. Here the blocks are walked, not decoded:

  PNG   every critical chunk's checksum is right, at most one colour profile, the end chunk is there; frames as found
  GIF   every block ends in the file, the end mark is there; the canvas as the first frame makes it; frames as found
  JPEG  a progressive file has at most MAX_SCANS scans: each costs a pass over all pixels, whatever its bytes
  AVIF  and JPEG 2000: see boxes.py
  WebP  the file is as long as it says
  PPM   numbers written as text end in white space: without it the last one may have lost digits

What follows the end is nobody's business (phones append videos). Ancillary chunks of a PNG are the decoder's to judge.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

from stages.images.boxes import Damage, is_avif, is_jpeg2000, walk_avif, walk_jpeg2000

MAX_SCANS = 100

PNG, GIF = b"\x89PNG\r\n\x1a\n", (b"GIF87a", b"GIF89a")

_SCAN = b"\xff\xda"
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class Structure(NamedTuple):
    """Frames as found; None where the decoder has to say. `canvas`: width and height, where known by now."""

    frames: int | None = None
    canvas: tuple[int, int] | None = None


def survey(data: bytes) -> Structure:
    """The structure of a file of any kind. Raises Damage."""
    if data.startswith(PNG):
        return Structure(_png_frames(data))
    if data.startswith(GIF):
        return _gif(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        size = int.from_bytes(data[4:8], "little") + 8
        if size > len(data):
            raise Damage(f"WEBP of {len(data):,} bytes that says it has {size:,}")
    if is_avif(data):
        walk_avif(data)
    if is_jpeg2000(data):
        return Structure(1, walk_jpeg2000(data))
    if data[:2] in (b"P2", b"P3") and data[2:3].isspace() and not data[-1:].isspace():
        raise Damage("PPM in text that ends in the middle of a number")
    return Structure()


def _png_frames(data: bytes) -> int:
    """Frames: those of an animation, with the default image where it is none of them; else 1."""
    view, at = memoryview(data), len(PNG)
    kinds: list[bytes] = []
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise Damage(f"PNG without its end chunk: {len(data):,} bytes")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise Damage(f"PNG cut in its chunk {kind!r} at byte {at:,}")
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise Damage(f"PNG with a wrong checksum in its chunk {kind!r} at byte {at:,}")
        if kind in (b"acTL", b"fcTL", b"iCCP") or (kind == b"IDAT" and kind not in kinds):
            kinds.append(kind)
        at = end
    if kinds.count(b"iCCP") > 1:
        raise Damage(f"PNG with {kinds.count(b'iCCP')} colour profiles, at most 1")
    if b"acTL" not in kinds or b"IDAT" not in kinds or kinds.index(b"acTL") > kinds.index(b"IDAT"):
        return 1
    return kinds.count(b"fcTL") + (b"fcTL" not in kinds[: kinds.index(b"IDAT")])


def _gif(data: bytes) -> Structure:
    try:
        return _gif_blocks(data)
    except (IndexError, struct.error):
        raise Damage(f"GIF that ends before its end mark: {len(data):,} bytes") from None


def _gif_blocks(data: bytes) -> Structure:
    width, height = struct.unpack_from("<HH", data, 6)
    at, frames = 13 + _colours(data[10]), 0
    while data[at] != 0x3B:  # the end mark
        if data[at] == 0x2C:  # a frame: place, colours, code size
            left, top, wide, high, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if not frames:
                width, height = max(width, left + wide), max(height, top + high)
            frames += 1
            at += 11 + _colours(flags)
        elif data[at] == 0x21:  # an extension
            at += 2
        elif data[at]:
            raise Damage(f"GIF with a block of unknown kind {data[at]} at byte {at:,}")
        while size := data[at]:
            at += size + 1
        at += 1
    return Structure(frames, (width, height))


def _colours(flags: int) -> int:
    """Bytes of the colour table that follows these flags."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def scans(data: bytes) -> int:
    """Scans of a JPEG's first picture, or an upper bound if that is at most MAX_SCANS."""
    if (bound := data.count(_SCAN)) <= MAX_SCANS:
        return bound
    at, found = 2, 0
    while (marker := _NEXT_MARKER.search(data, at)) and marker.group() != b"\xff\xd9":
        found += marker.group() == _SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return found
