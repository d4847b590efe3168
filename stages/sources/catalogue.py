"""The table of raw shapes (format name in a recipe -> adapter and its columns), and a source's declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.strict import unknown
from stages.sources import conversations, question_answer, texts
from stages.sources.draft import Draft
from stages.sources.remote import HubDataset, UrlColumn


@dataclass(frozen=True)
class Format:
    """How records of one shape become drafts; `columns` maps the adapter's fields to their usual column names."""

    adapt: Callable[[Mapping[str, Any], Mapping[str, str]], Draft]
    columns: Mapping[str, str]


FORMATS = {
    "texts": Format(texts.adapt, texts.COLUMNS),
    "conversations": Format(conversations.adapt, conversations.COLUMNS),
    "question_answer": Format(question_answer.adapt, question_answer.COLUMNS),
}


@dataclass(frozen=True)
class Source:
    """One source of a recipe: what its records look like and which files hold them. Where it lies is not said here.

    files     patterns of the record files, relative to the source's folder (.parquet, .json, .jsonl)
    images    folder or .zip that image names are relative to ("." is the source's folder); none: all bytes are inline
    columns   the adapter's field -> this source's column, where it differs from the usual name
    licence   for rows that don't name their own
    hub       the dataset repository whose files are fetched; none: the recipe's run.locations says where they lie
    urls      the column of image addresses, fetched before ingest; none: images are inline or in `images`
    """

    format: Literal["texts", "conversations", "question_answer"]
    files: tuple[str, ...]
    images: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    licence: str = "unknown"
    hub: HubDataset | None = None
    urls: UrlColumn | None = None

    def __post_init__(self) -> None:
        if self.urls is not None and self.images is not None:
            raise ValueError("urls and images: both given; images lie in a folder or are fetched, not both")
        known = FORMATS[self.format].columns
        for key in self.columns:
            if key not in known:
                raise ValueError(unknown("columns", key, known))
        for pattern in (*self.files, self.images or "."):
            if pattern.startswith("/") or ".." in pattern.split("/"):
                raise ValueError(f"{pattern!r} leaves the source's folder; patterns are relative to it")

    @property
    def column_map(self) -> dict[str, str]:
        return {**FORMATS[self.format].columns, **self.columns}
