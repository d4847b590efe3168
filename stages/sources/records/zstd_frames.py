"""A zstandard file as one stream of bytes: frame after frame, in bounded memory.

Frames stand one after the other (as `cat` and parallel compressors leave them); skippable ones hold nothing for us. A
file that ends inside a frame is cut. What a frame refers back to is held in memory while it is read, so a window above
WINDOW, the most that `zstd` itself takes unasked, is refused before its frame is opened.
"""

from __future__ import annotations

from pathlib import Path

import zstandard
from zstandard import ZstdError

WINDOW = 128 * 1024 * 1024

_BUFFER = 1024 * 1024
_HEADER = 18  # bytes at most
_PIECE = 512  # a block of four bytes may hold 128 KiB, so this much may inflate to 16 MiB


class WindowTooLarge(ValueError):
    """A frame that refers back further than WINDOW."""


class Frames:
    """The bytes inside a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", _BUFFER)
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        self._frame: zstandard.ZstdDecompressionObj
        self._inside = False
        self._packed, self._plain = b"", memoryview(b"")

    def read(self, size: int) -> bytes:
        """The next bytes; fewer than `size` only at the end. Raises ZstdError, WindowTooLarge."""
        pieces = []
        while size and (self._plain or self._inflate()):
            pieces.append(self._plain[:size])
            self._plain = self._plain[size:]
            size -= len(pieces[-1])
        return b"".join(pieces)

    def close(self) -> None:
        self._file.close()

    def _inflate(self) -> bool:
        """Give the next piece of the file to its frame; False at the end of the file."""
        packed = self._packed or self._file.read(_PIECE)
        if not packed and self._inside:
            raise ZstdError("the file ends inside a frame")
        if packed and not self._inside:  # its header may lie across two pieces
            packed += self._file.read(max(0, _HEADER - len(packed)))
            _check_window(packed)
            self._frame = self._decompressor.decompressobj()
        if packed:
            self._plain = memoryview(self._frame.decompress(packed))
            self._inside, self._packed = not self._frame.eof, self._frame.unused_data
        return bool(packed)


def _check_window(packed: bytes) -> None:
    window = zstandard.get_frame_parameters(packed).window_size
    if window > WINDOW:
        raise WindowTooLarge(f"a window of {window:,} bytes, at most {WINDOW:,}")
