"""Samples -> the numbers that the rules compare: columns of EVIDENCE, one value for each sample or a list by turn.

A row of the table below is a measure. Those that take longer are made where a rule of the recipe asks for them, or
where it wants all evidence; else their column is null. What of a measured column is null could not be told.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.verdict import TURNS
from stages.filters.rules import phrases, text
from stages.filters.text_key import texts
from stages.images.spread import spread
from stages.rounds import Messages, grouped


@dataclass(frozen=True)
class Round:
    """A question with its answer: the texts of its turns. `before`: both were said about the same images before."""

    messages: Messages
    questions: list[str]
    answers: list[str]
    before: bool
    document: bool

    @functools.cached_property
    def question(self) -> str:
        return "\n".join(self.questions)

    @functools.cached_property
    def answer(self) -> str:
        return "\n".join(self.answers)


class Measure(NamedTuple):
    """`slow`: made only where it is asked for."""

    kind: pa.DataType
    of: Callable[[Round], Any]
    slow: bool = False


def _of_text(side: str) -> dict[str, Measure]:
    """What is measured of questions and of answers."""
    rows: dict[str, tuple[pa.DataType, Callable[[str], Any]]] = {
        "repeated_lines": (pa.float64(), text.repeated_lines),
        "repeated_words": (pa.float64(), text.repeated_words),
        "compression": (pa.float64(), text.compression),
        "url_share": (pa.float64(), text.url_share),
        "control_characters": (pa.int32(), text.control_characters),
        "mojibake": (pa.int32(), text.mojibake),
    }
    return {f"{side}_{name}": Measure(kind, _at(side, of), True) for name, (kind, of) in rows.items()}


def _at(side: str, of: Callable[[str], Any]) -> Callable[[Round], Any]:
    return lambda one: of(getattr(one, side))


def _shortest_question(one: Round) -> int | None:
    """A user turn that shows something is not short."""
    said = [t for m, t in zip(_by(one, "user"), one.questions, strict=True) if not _shows(m)]
    return min(map(len, said), default=None)


def _out_of_order(one: Round) -> int:
    """Turns that don't follow as question, answer; a document is its answer alone."""
    roles = [message["role"] for message in one.messages]
    before = ["assistant" if not one.document else None, *roles]
    return sum(role == last or role == "system" for last, role in zip(before, roles, strict=False))


OF_TURNS: dict[str, Measure] = {
    "turn_characters": Measure(pa.int32(), lambda one: _characters(one.messages)),
    "shortest_question": Measure(pa.int32(), _shortest_question),
    "question_characters": Measure(pa.int32(), lambda one: len(one.question)),
    "shortest_answer": Measure(pa.int32(), lambda one: min(map(len, one.answers), default=None)),
    "answer_characters": Measure(pa.int32(), lambda one: len(one.answer)),
    "asked": Measure(pa.bool_(), lambda one: bool(one.questions)),
    "answered": Measure(pa.bool_(), lambda one: one.messages[-1]["role"] == "assistant"),
    "out_of_order": Measure(pa.int32(), _out_of_order),
    "echo": Measure(pa.bool_(), lambda one: one.answer != "" and one.answer.casefold() == one.question.casefold()),
    "copy": Measure(pa.bool_(), lambda one: one.before),
    **_of_text("question"),
    **_of_text("answer"),
    "refusals": Measure(pa.int32(), lambda one: phrases.refusals(one.answer), True),
    "boilerplate": Measure(pa.int32(), lambda one: phrases.boilerplate(one.answer), True),
    "kana_lines": Measure(pa.float64(), _at("answer", text.kana_lines), True),
    "sentence_characters": Measure(pa.float64(), _at("answer", text.sentence_characters), True),
    "ascii_run": Measure(pa.int32(), _at("answer", text.ascii_run), True),
}

_OF_IMAGES: dict[str, pa.DataType] = {
    "smallest_side": pa.int32(),
    "largest_aspect": pa.float64(),
    "fewest_pixels": pa.int64(),
    "most_pixels": pa.int64(),
    "least_spread": pa.float64(),
}

EVIDENCE = pa.schema(
    [
        *TURNS,
        ("characters", pa.int64()),
        *_OF_IMAGES.items(),
        *((name, pa.list_(measure.kind)) for name, measure in OF_TURNS.items()),
    ]
)


def measured(table: pa.Table, asked: Collection[str] | None) -> pa.Table:
    """EVIDENCE but what became of the turns, of samples with messages and image_info; `asked`: slow ones, None: all."""
    chosen = {name: m for name, m in OF_TURNS.items() if asked is None or not m.slow or name in asked}
    talks = table["messages"].to_pylist()
    lists: dict[str, list[Any]] = {name: [] for name in chosen}
    ends = [0]
    for messages in talks:
        rounds = list(_rounds(messages))
        for name, measure in chosen.items():
            lists[name] += map(measure.of, rounds)
        ends.append(ends[-1] + len(rounds))
    columns: dict[str, Any] = {
        "turns": pa.array([end - start for start, end in itertools.pairwise(ends)], pa.int32()),
        "characters": pa.array(map(_characters, talks), pa.int64()),
        **_images(table["image_info"].to_pylist()),
    }
    for name, values in lists.items():
        columns[name] = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values, OF_TURNS[name].kind))
    empty = {field.name: pa.nulls(table.num_rows, field.type) for field in EVIDENCE}
    return pa.table({**empty, **columns}, schema=EVIDENCE)


def _rounds(messages: Messages) -> Iterator[Round]:
    head, rounds = grouped(messages)
    document = not head and [message["role"] for message in messages] == ["assistant"]
    seen: set[tuple[int, str, str]] = set()
    shown = 0
    for number, turns in enumerate(rounds):
        shown = number if any(map(_shows, turns)) else shown
        said = Round(turns, [_said(m) for m in turns if m["role"] == "user"], _answers(turns), False, document)
        key = shown, said.question, said.answer
        yield Round(turns, said.questions, said.answers, key in seen, document)
        seen.add(key)


def _answers(turns: Messages) -> list[str]:
    return [_said(message) for message in turns if message["role"] == "assistant"]


def _by(one: Round, role: str) -> list[Mapping[str, Any]]:
    return [message for message in one.messages if message["role"] == role]


def _said(message: Mapping[str, Any]) -> str:
    return " ".join(texts([message])).strip()


def _shows(message: Mapping[str, Any]) -> bool:
    return any(block["type"] == "image" for block in message["content"])


def _characters(messages: Messages) -> int:
    return sum(map(len, texts(messages)))


def _images(infos: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, pa.Array]:
    """A value of each measure for the images of every sample."""
    rows = [_of_images(found) for found in infos]
    return {name: pa.array([row.get(name) for row in rows], kind) for name, kind in _OF_IMAGES.items()}


def _of_images(infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not infos:
        return {}
    sides = [(info["width"], info["height"]) for info in infos]
    pixels = [width * height for width, height in sides]
    return {
        "smallest_side": min(map(min, sides)),
        "largest_aspect": max(max(side) / min(side) for side in sides),
        "fewest_pixels": min(pixels),
        "most_pixels": max(pixels),
        "least_spread": min((s for info in infos if (s := spread(info)) is not None), default=None),
    }
