"""Files as they were listed, and the proof that what is read of them is just that.

What a step makes is named by what its files were when they were listed. So a file is looked at before and after it is
read: size and times (last change of the bytes, last change of the entry; the second can't be set back) must be those of
the listing, and a file whose every byte is read must have the listed hash. One that was changed and put back has other
times, and is refused as well: the next run lists it anew, hashes it, and goes on.

A listing of images is a file of its own, sorted by name and memory-mapped: a worker looks up the names that its rows
have, and holds none of the others.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from stages.sources.file_names import on_disk
from stages.sources.records.streams import DataError

# `sha256` is null for what is not hashed
LISTING = pa.schema([("file", pa.string()), ("size", pa.int64()), ("times", pa.string()), ("sha256", pa.string())])

_BATCH = 1 << 16


class Changed(DataError):
    """A file is not what was listed."""


class Listed(NamedTuple):
    """A file, named relative to its source's folder, as it was when it was listed."""

    file: str
    size: int
    times: str
    sha256: str | None = None


def times(status: os.stat_result) -> str:
    """What a listing says of a file beside its size."""
    return f"{status.st_mtime_ns} {status.st_ctime_ns}"


def path_of(root: str | Path, file: str) -> Path:
    """Where a listed file lies."""
    return Path(root, on_disk(file))


@contextmanager
def unchanged(root: str | Path, files: Sequence[Listed]) -> Iterator[None]:
    """While these files are read. Raises Changed for one that was not all the time what was listed, instead of whatever
    reading it led to."""
    check(root, files)
    try:
        yield
    finally:
        check(root, files)


def check(root: str | Path, files: Iterable[Listed]) -> None:
    """Raise Changed for the first file that has another size or time than was listed, or is gone."""
    for file in files:
        try:
            status = path_of(root, file.file).stat()
        except OSError as error:
            raise _gone(file, error) from None
        _compare(file, status)


def read_whole(root: str | Path, file: Listed) -> bytes:
    """All bytes of a file, proven by size, times and hash. Raises Changed."""
    try:
        # what took its place may be a pipe, which would be waited for
        with os.fdopen(
            os.open(path_of(root, file.file), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", 0
        ) as stream:
            _compare(file, os.fstat(stream.fileno()))
            data: bytes = stream.read()
            _compare(file, os.fstat(stream.fileno()))
    except OSError as error:
        raise _gone(file, error) from None
    check_hash(file, hashlib.sha256(data).hexdigest())
    return data


def check_hash(file: Listed, found: str) -> None:
    """Raise Changed for a file that has another hash than was listed."""
    if file.sha256 not in (None, found):
        raise Changed(f"{file.file}: changed (its bytes are not those that were hashed); run again to list it anew")


def _compare(file: Listed, status: os.stat_result) -> None:
    if status.st_size != file.size:
        told = f"listed with {file.size:,} bytes, now {status.st_size:,}"
    elif times(status) != file.times:
        told = f"written or moved since it was listed, {file.size:,} bytes still"
    else:
        return
    raise Changed(f"{file.file}: changed ({told}); run again to list it anew")


def _gone(file: Listed, error: OSError) -> Changed:
    why = error.strerror or type(error).__name__
    return Changed(f"{file.file}: can't be read any more ({why}); put it back, or run again to list what is there")


class Listing:
    """Listed files, by name."""

    def __init__(self, table: pa.Table) -> None:
        self._table, self._names = table, table["file"]

    @classmethod
    def of(cls, files: Iterable[Listed]) -> Listing:
        """Of files that are sorted by name."""
        return cls(pa.Table.from_batches(_batches(files), LISTING))

    @classmethod
    def open(cls, path: str | Path) -> Listing:
        """A listing that `save` wrote."""
        return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all())

    def find(self, file: str) -> Listed | None:
        """The file of this name, if it was listed."""
        row = bisect_left(range(len(self._names)), file, key=lambda at: self._names[at].as_py())
        if row == len(self._names) or self._names[row].as_py() != file:
            return None
        return Listed(*(self._table[name][row].as_py() for name in LISTING.names))


def save(files: Iterable[Listed], path: Path) -> None:
    """Write files that are sorted by name."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, LISTING) as writer:
        for batch in _batches(files):
            writer.write_batch(batch)


def _batches(files: Iterable[Listed]) -> Iterator[pa.RecordBatch]:
    left = iter(files)
    while some := list(islice(left, _BATCH)):
        yield pa.record_batch([pa.array(column) for column in zip(*some, strict=True)], schema=LISTING)
