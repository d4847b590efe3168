"""What a recipe says of one source: the shape of its records, their files, and where these come from if not from disk.

Only what the content depends on: the folder or bucket, the server, the token and how often to try are no part of the
result, and stand elsewhere (`run`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from schemas.benchmark import Scoring
from schemas.strict import unknown
from stages.sources.records.slices import SUFFIXES, TAR_SUFFIXES
from stages.sources.shapes.beyond import WEIGHTS, changes
from stages.sources.shapes.draft import Reading
from stages.sources.table import FORMATS

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
    def name(self) -> str:
        return self.dataset

    @property
    def page(self) -> str:
        """Below a server: where people read of it, and where its files lie."""
        return f"datasets/{self.dataset}"

    @property
    def api(self) -> str:
        return self.page

    @property
    def origin(self) -> dict[str, str]:
        return {"dataset": self.dataset, "revision": self.revision}

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


@dataclass(frozen=True)
class Source:
    """One source of a recipe: what its records look like and which files hold them. Where it lies is not said here.

    files     patterns of the record files, relative to the source's folder: .parquet, .json, .jsonl, and .tar for
              webdataset; JSON and tars also as .gz or .zst
    images    where image names lead: a folder ("." is the source's), a .zip or .tar, a pattern of such archives, their
              numbered parts included, or a list of all that; none: all bytes are inline
    columns   the adapter's field -> this source's column, where it differs from the usual name; `choices` may have a
              list of columns, one for each option
    licence   for rows that don't name their own
    prompt    the question that every caption answers; for caption and webdataset
    scores    columns with numbers that rate the row; quality's `min_scores` can ask for them
    ignore    columns, and keys of turns (`messages[].weight`), that need not be read: no word of them, and no row is a
              reject for what they hold
    hub       the dataset repository whose files are fetched; none: the recipe's run.locations says where they lie
    follow_links  whether links out of the source's folder are followed; those inside it always are
    urls      the column of image addresses, fetched before ingest; none: images are inline or in `images`
    scoring   of a benchmark: how its answers are asked for and scored; for question_answer. Its rows then hold all
              accepted answers, options and category too
    """

    format: Literal["texts", "conversations", "messages", "question_answer", "alpaca", "caption", "text", "webdataset"]
    files: tuple[str, ...]
    images: str | tuple[str, ...] | None = None
    columns: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    licence: str = "unknown"
    prompt: str | None = None
    scores: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    hub: HubDataset | None = None
    urls: UrlColumn | None = None
    follow_links: bool = False
    scoring: Scoring | None = None

    def __post_init__(self) -> None:
        if self.urls is not None and self.images is not None:
            raise ValueError("urls and images: both given; images lie in a folder or are fetched, not both")
        self._check_columns()
        self._check_scoring()
        for name in self.ignore:
            if name in self.read_columns:
                raise ValueError(
                    f"ignore: {name!r} is a column that {self.format} reads; map it elsewhere, or delete this"
                )
        if self.prompt is not None and FORMATS[self.format].prompt is None:
            raise ValueError(
                f"prompt: {self.format} has questions of its own; only caption and webdataset take a prompt"
            )
        for pattern in (*self.files, *self.image_patterns):
            if pattern.startswith("/") or ".." in pattern.split("/"):
                raise ValueError(f"{pattern!r} leaves the source's folder; patterns are relative to it")

    def _check_scoring(self) -> None:
        """Options are asked where there are some, and only there."""
        if self.scoring is None:
            return
        if not FORMATS[self.format].scored:
            able = ", ".join(name for name, shape in FORMATS.items() if shape.scored)
            raise ValueError(f"scoring: {self.format} has no answers to compare with; benchmarks are {able}")
        told, there = "{choices}" in self.scoring.prompt, bool(self.columns.get("choices"))
        if told and not there:
            raise ValueError("scoring.prompt: has {choices}, and columns names none; map `choices` to their column")
        if there and not told and self.scoring.metric == "multiple_choice":
            raise ValueError(
                f"scoring.prompt: got {self.scoring.prompt!r}; multiple_choice needs {{choices}} where the options go"
            )

    def _check_columns(self) -> None:
        shape = FORMATS[self.format]
        for key, column in self.columns.items():
            if key not in shape.columns:
                raise ValueError(unknown("columns", key, shape.columns))
            if not isinstance(column, str) and (key not in shape.several or not column):
                wanted = "at least one" if key in shape.several else "one column's name"
                raise ValueError(f"columns.{key}: got a list, {list(column)}, wanted {wanted}")

    @property
    def column_map(self) -> dict[str, str]:
        """Field -> column; of one that has several columns they are `field[0]`, `field[1]` ..."""
        found = dict(FORMATS[self.format].columns)
        for key, column in self.columns.items():
            several = {} if isinstance(column, str) else {f"{key}[{n}]": one for n, one in enumerate(column)}
            found |= several or {key: str(column)}
        return found

    @property
    def image_patterns(self) -> tuple[str, ...]:
        """`images` as a list."""
        return (self.images,) if isinstance(self.images, str) else self.images or ()

    @property
    def suffixes(self) -> tuple[str, ...]:
        """How its record files' names end."""
        return TAR_SUFFIXES if self.format == "webdataset" else SUFFIXES

    @property
    def reading(self) -> Reading:
        """What the adapter needs to know of this source."""
        prompt = FORMATS[self.format].prompt if self.prompt is None else self.prompt
        return Reading(self.column_map, prompt or "", frozenset(self.ignore), self.scoring is not None)

    @cached_property
    def read_columns(self) -> frozenset[str]:
        """The columns of a record that are read; a shape may read others by the look of their names (`also`)."""
        inner = FORMATS[self.format].inner
        urls = (self.urls.column, self.urls.sha256 or self.urls.column) if self.urls else ()
        return frozenset([*(c for field, c in self.column_map.items() if field not in inner), *self.scores, *urls])

    @cached_property
    def turn_keys(self) -> frozenset[str]:
        """What is read of a turn."""
        shape = FORMATS[self.format]
        return frozenset([*shape.turn_keys, *(self.column_map[field] for field in shape.inner), *WEIGHTS])

    @property
    def unasked(self) -> tuple[str, ...]:
        """What of `ignore` changes the result; the rest only says that a person knows."""
        return tuple(sorted(name for name in self.ignore if changes(name)))
