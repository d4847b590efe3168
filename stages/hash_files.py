"""Hash the files of a folder: what they are, as content, whatever they are called by and wherever they lie.

A file is listed with its size and its times (last change of the bytes, last change of the entry). The second can't be
set back, so a file that was edited in place and given its old time is another one all the same. A file that is not what
was listed, before or after it was read, fails: what its hash would speak of, nobody knows.
"""

from __future__ import annotations

from pathlib import Path

from schemas.manifest import hash_file
from stages.sources.listing import Changed, Listed, path_of, unchanged

VERSION = 1

REASONS = {
    "changed": "the file is not the one that was listed: its size or time changed since",
    "unreadable": "the file can't be opened or read",
}


class Unhashed(Exception):
    """A file that can't be hashed; `reason` is one of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def sha256_of(root: str | Path, file: Listed) -> str:
    """The sha256 of a file that is what was listed. Raises Unhashed."""
    try:
        with unchanged(root, [file]):
            return hash_file(path_of(root, file.file))
    except Changed as error:
        raise Unhashed("changed", str(error)) from None
    except OSError as error:
        raise Unhashed("unreadable", f"{file.file}: unreadable ({error.strerror or type(error).__name__})") from None
