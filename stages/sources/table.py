"""The table of raw shapes (format name in a recipe -> adapter and its columns), and a source's declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.strict import unknown
from stages.sources.records.slices import SUFFIXES, TAR_SUFFIXES
from stages.sources.remote import HubDataset, UrlColumn
from stages.sources.shapes import caption, conversations, messages, question_answer, text, texts, webdataset
from stages.sources.shapes.draft import Draft, Reading


@dataclass(frozen=True)
class Format:
    """How records of one shape become drafts; `columns` maps the adapter's fields to their usual column names.

    required   fields without which no record of this shape can become a sample
    prompt     the question put where the shape has none
    """

    adapt: Callable[[Mapping[str, Any], Reading], Draft]
    columns: Mapping[str, str]
    required: tuple[str, ...] = ()
    prompt: str | None = None


FORMATS = {
    "texts": Format(texts.adapt, texts.COLUMNS, ("texts",)),
    "conversations": Format(conversations.adapt, conversations.COLUMNS, ("conversations",)),
    "messages": Format(messages.adapt, messages.COLUMNS, ("messages",)),
    "question_answer": Format(question_answer.adapt, question_answer.COLUMNS, ("question", "answer")),
    "caption": Format(caption.adapt, caption.COLUMNS, ("image", "caption"), caption.PROMPT),
    "webdataset": Format(webdataset.adapt, webdataset.COLUMNS, (), caption.PROMPT),
    "text": Format(text.adapt, text.COLUMNS, ("text",)),
}


@dataclass(frozen=True)
class Source:
    """One source of a recipe: what its records look like and which files hold them. Where it lies is not said here.

    files     patterns of the record files, relative to the source's folder: .parquet, .json, .jsonl, and .tar for
              webdataset; JSON and tars also as .gz or .zst
    images    where image names lead: a folder ("." is the source's), a .zip or .tar, a pattern of such archives, their
              numbered parts included, or a list of all that; none: all bytes are inline
    columns   the adapter's field -> this source's column, where it differs from the usual name
    licence   for rows that don't name their own
    prompt    the question that every caption answers; for caption and webdataset
    scores    columns with numbers that rate the row; quality's `min_scores` can ask for them
    hub       the dataset repository whose files are fetched; none: the recipe's run.locations says where they lie
    urls      the column of image addresses, fetched before ingest; none: images are inline or in `images`
    """

    format: Literal["texts", "conversations", "messages", "question_answer", "caption", "text", "webdataset"]
    files: tuple[str, ...]
    images: str | tuple[str, ...] | None = None
    columns: dict[str, str] = field(default_factory=dict)
    licence: str = "unknown"
    prompt: str | None = None
    scores: tuple[str, ...] = ()
    hub: HubDataset | None = None
    urls: UrlColumn | None = None

    def __post_init__(self) -> None:
        if self.urls is not None and self.images is not None:
            raise ValueError("urls and images: both given; images lie in a folder or are fetched, not both")
        known = FORMATS[self.format].columns
        for key in self.columns:
            if key not in known:
                raise ValueError(unknown("columns", key, known))
        if self.prompt is not None and FORMATS[self.format].prompt is None:
            raise ValueError(
                f"prompt: {self.format} has questions of its own; only caption and webdataset take a prompt"
            )
        for pattern in (*self.files, *self.image_patterns):
            if pattern.startswith("/") or ".." in pattern.split("/"):
                raise ValueError(f"{pattern!r} leaves the source's folder; patterns are relative to it")

    @property
    def column_map(self) -> dict[str, str]:
        return {**FORMATS[self.format].columns, **self.columns}

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
        return Reading(self.column_map, prompt or "")
