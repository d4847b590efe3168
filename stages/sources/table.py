"""The table of raw shapes: the name of a format in a recipe -> the adapter of its records and their columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.sources.shapes import alpaca, caption, conversations, messages, question_answer, text, texts, webdataset
from stages.sources.shapes.draft import Draft, Reading


@dataclass(frozen=True)
class Format:
    """How records of one shape become drafts; `columns` maps the adapter's fields to their usual column names.

    required   fields without which no record of this shape can become a sample
    prompt     the question put where the shape has none
    inner      fields that stand in a turn and not in the record
    turns      fields that hold a list of turns; turn_keys: what is read of a turn beside `inner`
    marks      fields of text in which a literal `<video>` may stand for one, beside the turns
    also       columns that are read under their own name alone
    several    fields that may have a column for each item of a list
    scored     whether answers can be compared with what the records hold, as a benchmark's are
    """

    adapt: Callable[[Mapping[str, Any], Reading], Draft]
    columns: Mapping[str, str]
    required: tuple[str, ...] = ()
    prompt: str | None = None
    inner: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()
    turn_keys: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    also: Callable[[str], bool] = lambda name: False
    several: tuple[str, ...] = ()
    scored: bool = False


FORMATS = {
    "texts": Format(
        texts.adapt,
        texts.COLUMNS,
        ("texts",),
        turns=("texts",),
        turn_keys=("user", "assistant"),
        also=texts.rates,
    ),
    "conversations": Format(
        conversations.adapt,
        conversations.COLUMNS,
        ("conversations",),
        inner=("role", "text"),
        turns=("conversations",),
    ),
    "messages": Format(
        messages.adapt, messages.COLUMNS, ("messages",), turns=("messages",), turn_keys=messages.TURN_KEYS
    ),
    "question_answer": Format(
        question_answer.adapt,
        question_answer.COLUMNS,
        ("question", "answer"),
        also=question_answer.is_image,
        several=question_answer.SEVERAL,
        scored=True,
    ),
    "alpaca": Format(alpaca.adapt, alpaca.COLUMNS, ("instruction", "output"), marks=("instruction", "input")),
    "caption": Format(caption.adapt, caption.COLUMNS, ("image", "caption"), caption.PROMPT),
    "webdataset": Format(
        webdataset.adapt,
        webdataset.COLUMNS,
        (),
        caption.PROMPT,
        turns=("conversations", "messages"),
        turn_keys=messages.TURN_KEYS,
        also=webdataset.ALSO.__contains__,
    ),
    "text": Format(text.adapt, text.COLUMNS, ("text",)),
}
