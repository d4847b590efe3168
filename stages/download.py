"""List a source: every file with its size, its hash and its role, before anything is read.

A folder on disk is read in place: nothing is copied, and where it lies is not part of the result. Files of a dataset on
the Hub are fetched, as many as its `configs` and `limit` select, and so are the objects of a bucket. Files that the
source's declaration doesn't name are none of it; how many there are is said in run.json, so that a forgotten pattern
shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import pyarrow as pa

from stages.sources.declaration import Source

VERSION = 1

# Why a file could not be fetched; a step ends only without them
REASONS = {
    "not_found": "the server has no such file",
    "forbidden": "the server wants a token, or accepted terms",
    "refused": "the server answered with another error that waiting does not mend",
    "rate_limited": "the server asked for more patience than the recipe has",
    "server_error": "the server failed each time",
    "timeout": "no connection, or no byte for too long",
    "cut_short": "the connection broke off each time",
    "unreachable": "no connection",
    "unresolved": "the host's name has no address",
    "certificate": "the server's certificate is not to be trusted",
    "address_refused": "the address is not a public one, and run.allow_hosts does not name its host",
    "bad_url": "not an http or https address",
    "redirects": "redirected too often",
    "wrong_content": "the bytes are not those that the listing promises",
    "changed": "the file is another one than was listed; the next run lists it anew",
    "too_large": "more bytes than allowed",
    "disk": "the file could not be written",
    "not_asked": "files before it failed for what concerns this one too",
}

# Reasons that concern every file, and what they say when STREAK files in a row failed for one: then the others are not
# asked for in this run, for each would use up the whole patience once more
STOPS = {
    **dict.fromkeys(("unreachable", "unresolved", "timeout"), "the server does not answer"),
    **dict.fromkeys(("server_error", "cut_short"), "the server fails"),
    "rate_limited": "the server asks for a longer wait than run.patience.longest_wait",
    "disk": "nothing more can be written",
}
STREAK = 3

FILES = pa.schema([("file", pa.string()), ("role", pa.string()), ("size", pa.int64()), ("sha256", pa.string())])


class Found(NamedTuple):
    """A file of a source, named relative to its folder.

    `digest`: what is known of its bytes: sha256; of a listing git's blob sha1 (40 digits) on the Hub, the ETag in a
    bucket, the times in a folder (stages/hash_files.py).
    """

    file: str
    size: int
    digest: str


def role(file: str, source: Source) -> str | None:
    """ "records", "images", or None for a file that the source doesn't name."""
    if any(fnmatchcase(file, pattern) for pattern in source.files):
        return "records"
    return "images" if any(holds(pattern, file) for pattern in source.image_patterns) else None


def holds(pattern: str, file: str) -> bool:
    """Is a file below the folder, or one of the archives, that a pattern of images names?"""
    return pattern == "." or file.startswith(pattern + "/") or fnmatchcase(file, pattern)


def listing(found: Iterable[Found], source: Source) -> pa.Table:
    """FILES of a source, sorted by name, without those that no pattern names."""
    files = sorted(found)
    named = [(f, kind) for f in files if (kind := role(f.file, source)) is not None]
    rows = [{"file": f.file, "role": kind, "size": f.size, "sha256": f.digest} for f, kind in named]
    return pa.Table.from_pylist(rows, schema=FILES)


def select(found: Sequence[Found], source: Source) -> list[Found]:
    """What a Hub source takes of a repository: its images, and the record files within `configs` and `limit`."""
    if source.hub is None:
        return list(found)
    folders = tuple(f"{config}/" for config in source.hub.configs)
    groups: dict[str, int] = {}
    taken = []
    for entry in sorted(found):
        if role(entry.file, source) == "records":
            group = _group(entry.file, folders or source.files, literal=bool(folders))
            groups[group] = groups.get(group, 0) + 1
            if not group or groups[group] > (source.hub.limit or groups[group]):
                continue
        taken.append(entry)
    return taken


def _group(file: str, names: Sequence[str], literal: bool) -> str:
    """The config folder or pattern that a file counts for; "" if none."""
    return next((n for n in names if (file.startswith(n) if literal else fnmatchcase(file, n))), "")
