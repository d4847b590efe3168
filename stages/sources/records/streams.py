"""Opens a data file as a stream of bytes: plain, gzip or zstd by its name.

A compressed stream can only be read forwards. The last one stays open in the process, at its place, so that parts of
one file done in order cost one pass over it and not one pass each; going back starts again from the beginning. Memory
is a buffer, whatever the stream inflates to.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from stages.sources.records.zstd_frames import Frames, WindowTooLarge, ZstdError

_MIB = 1024 * 1024
_BUFFER = _MIB


class DataError(ValueError):
    """A data file that can't be read: one line with the file, the place and what to do."""


@dataclass(frozen=True)
class Limits:
    """The most bytes of one image, of the text of one row (or its JSON), and of one row with all of its images.

    On its way into a part a row stands in memory several times: page, batch, record, table, page again. Text has the
    smallest cap, because JSON of nothing but brackets takes far more than its bytes once it is parsed.
    """

    image: int = 64 * _MIB
    text: int = 32 * _MIB
    row: int = 128 * _MIB


def _gunzipped(path: Path) -> Any:
    return pa.CompressedInputStream(pa.OSFile(str(path)), "gzip")


# How a file ends that is compressed -> what opens it: something with `read` and `close`
CODECS: dict[str, Callable[[Path], Any]] = {".gz": _gunzipped, ".zst": Frames}


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed, seekable. Raises DataError where the compressed data is damaged."""
    if path.suffix not in CODECS:
        with path.open("rb") as stream:
            yield stream
    else:
        try:
            yield _kept(path)
        except DataError:
            _close()  # nobody knows what a decompressor gives after an error
            raise


_last: dict[tuple[str, int, int, int], BinaryIO] = {}


def _kept(path: Path) -> BinaryIO:
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in _last:
        _close()
        _last[key] = cast(BinaryIO, io.BufferedReader(_Inflated(path), _BUFFER))
    return _last[key]


def _close() -> None:
    for stream in _last.values():
        stream.close()
    _last.clear()


class _Inflated(io.RawIOBase):
    """A decompressed file with `seek`: forwards by reading, backwards by starting again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: Any = None
        self._restart()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        if whence == io.SEEK_END or target < 0:
            raise io.UnsupportedOperation("a compressed stream has no known end")
        if target < self._at:
            self._restart()
        while self._at < target and self._read(min(_BUFFER, target - self._at)):
            pass
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        super().close()

    def _restart(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream, self._at = CODECS[self.path.suffix](self.path), 0

    def _read(self, size: int) -> bytes:
        try:
            data = bytes(self._stream.read(size))
        except WindowTooLarge as error:
            raise DataError(f"{self.path}: compressed with {error}; compress it again with `zstd --long=27`") from None
        except (OSError, pa.ArrowInvalid, ZstdError) as error:
            raise DataError(
                f"{self.path}: damaged or cut at byte {self._at:,} inside ({error}); fetch it again"
            ) from None
        self._at += len(data)
        return data
