"""A file that a listing promises, and what proves that it came: its size, its hash, its version.

A listing gives one of three hashes: sha256 (the Hub's LFS), git's blob sha1 (the Hub's small files) or MD5 (the ETag of
a bucket's object). sha256 is taken of every file besides, for the record of what was fetched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from pipeline.net.trouble import shown

PARTIAL = ".partial"


@dataclass(frozen=True)
class Want:
    """A file to fetch.

    url      may hold a signature: never shown whole
    digest   of its content: sha256 (64 digits), the git blob sha1 (40 digits) or md5 (32 digits)
    version  the ETag, quotes included, that every answer must have; what has another is another file
    advice   what the user can do where the server forbids it
    """

    url: str = field(repr=False)
    size: int | None = None
    digest: str | None = None
    version: str = ""
    advice: str = ""

    @property
    def by_etag(self) -> bool:
        """Whether `digest` is an MD5: it was an ETag, which is no hash of an object that KMS encrypts."""
        return self.digest is not None and len(self.digest) == 32


@dataclass(frozen=True)
class Fetched:
    """A file that is there in full."""

    size: int
    sha256: str


class Hashes:
    """sha256 of what passes, and git's blob sha1 or md5 where that is what was promised."""

    def __init__(self, want: Want) -> None:
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False) if want.by_etag else None
        self.git = None
        if want.digest and len(want.digest) == 40:
            if want.size is None:
                raise ValueError(f"{shown(want.url)}: a git blob's hash begins with its size; give the size")
            self.git = hashlib.sha1(b"blob %d\0" % want.size, usedforsecurity=False)

    def update(self, chunk: bytes) -> None:
        self.sha256.update(chunk)
        for other in (self.git, self.md5):
            if other is not None:
                other.update(chunk)

    def wanted(self) -> str:
        return (self.git or self.md5 or self.sha256).hexdigest()
