"""Hash the files of a folder: what they are, as content, whatever they are called by and wherever they lie.

A file is listed with its size and its times (last change of the bytes, last change of the entry). The second can't be
set back, so a file that was edited in place and given its old time is another one all the same. A file that is not what
was listed, before or after it was read, fails: what its hash would speak of, nobody knows.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from schemas.manifest import hash_file

VERSION = 1

REASONS = {
    "changed": "the file is not the one that was listed: its size or time changed since",
    "unreadable": "the file can't be opened or read",
}

# `sha256` is null for what is still to be hashed
LISTING = pa.schema([("file", pa.string()), ("size", pa.int64()), ("times", pa.string()), ("sha256", pa.string())])


class Unhashed(Exception):
    """A file that can't be hashed; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason} ({detail})")
        self.reason = reason


def times(status: os.stat_result) -> str:
    """What a listing says of a file beside its size."""
    return f"{status.st_mtime_ns} {status.st_ctime_ns}"


def sha256_of(path: Path, size: int, listed: str) -> str:
    """The sha256 of a file that was listed with a size and times. Raises Unhashed."""
    try:
        _check(path, size, listed)
        digest = hash_file(path)
        _check(path, size, listed)
    except OSError as error:
        raise Unhashed("unreadable", error.strerror or type(error).__name__) from None
    return digest


def _check(path: Path, size: int, listed: str) -> None:
    status = path.stat()
    if (status.st_size, times(status)) != (size, listed):
        raise Unhashed("changed", f"listed with {size:,} bytes, now {status.st_size:,}; run again to list it anew")
