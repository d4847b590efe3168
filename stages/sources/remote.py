"""Declarations of data that lies elsewhere: a dataset on the Hub, images that rows name by their addresses.

Only what the content depends on: which server, which token and how often to try are no part of the result.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_DATASET = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True)
class HubDataset:
    """A dataset repository. Its files stand in for the source's folder; the source's `files` and `images` name them.

    dataset   owner/name
    revision  a commit's 40 digits; a branch or tag is looked up when the run starts, and may have moved by the next one
    configs   folders that record files are taken from, by their literal names; none: the whole repository
    limit     at most so many record files of each config (or of each pattern of `files`), the first by name; none: all
    """

    dataset: str
    revision: str = "main"
    configs: tuple[str, ...] = ()
    limit: int | None = None

    def __post_init__(self) -> None:
        if not _DATASET.fullmatch(self.dataset) or ".." in self.dataset:
            raise ValueError(f"dataset: got {self.dataset!r}, wanted owner/name")
        if not self.revision.strip("/. "):
            raise ValueError(f"revision: got {self.revision!r}, wanted a commit, a tag or a branch")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit: got {self.limit}, wanted at least 1")
        for config in self.configs:
            if not config.strip("/") or config != config.strip("/"):
                raise ValueError(f"configs: got {config!r}, wanted a folder's name without / at its ends")

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which can't move."""
        return re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None


@dataclass(frozen=True)
class UrlColumn:
    """Images by address: `column` of the records holds the address, `sha256` (if any) the hash of the image in hex.

    An image over `max_bytes`, or not there after `max_seconds`, is given up. The adapter's `image` column is the same.
    """

    column: str
    sha256: str | None = None
    max_bytes: int = 64 * 2**20
    max_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or self.max_seconds <= 0:
            raise ValueError(f"wanted max_bytes >= 1 and max_seconds > 0, got {self.max_bytes}, {self.max_seconds}")
