"""The table of raw shapes: the name of a format in a recipe -> the adapter of its records and their columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
