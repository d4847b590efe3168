"""List a source: every file with its size, its sha256 and its role, before anything is read.

A folder on disk is read in place: nothing is copied, and where it lies is not part of the result. Files that the
source's declaration doesn't name are none of it; how many there are is said in run.json, so that a forgotten pattern
shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

import pyarrow as pa

from stages.sources.catalogue import Source

VERSION = 1

FILES = pa.schema([("file", pa.string()), ("role", pa.string()), ("size", pa.int64()), ("sha256", pa.string())])


class Found(NamedTuple):
    """A file of a source: its name relative to the source's folder."""

    file: str
    size: int
    sha256: str


def role(file: str, source: Source) -> str | None:
    """ "records", "images", or None for a file that the source doesn't name."""
    if any(fnmatchcase(file, pattern) for pattern in source.files):
        return "records"
    return "images" if any(_holds(pattern, file) for pattern in source.image_patterns) else None


def _holds(pattern: str, file: str) -> bool:
    """Is a file below the folder, or one of the archives, that a pattern of images names?"""
    return pattern == "." or file.startswith(pattern + "/") or fnmatchcase(file, pattern)


def listing(found: Iterable[Found], source: Source) -> tuple[pa.Table, int]:
    """FILES of a source, sorted by name, and how many files no pattern names."""
    files = sorted(found)
    named = [(f, kind) for f in files if (kind := role(f.file, source)) is not None]
    rows = [{"file": f.file, "role": kind, "size": f.size, "sha256": f.sha256} for f, kind in named]
    return pa.Table.from_pylist(rows, schema=FILES), len(files) - len(named)
