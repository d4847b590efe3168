"""A conversation as rounds: a question with its answer, or all turns up to the next question.

Turns before the first question (a system turn) are the head. What takes some rounds of a conversation for another
sample (stages/split.py, stages/kept_turns.py) deals out the images here: each round has those that it shows, and one
that shows none is about those that were shown before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Messages = Sequence[Mapping[str, Any]]

_OF_IMAGES = ("images", "image_info")


def grouped(messages: Messages) -> tuple[Messages, list[list[Mapping[str, Any]]]]:
    """The turns before the first question, and those of each round."""
    start = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    rounds: list[list[Mapping[str, Any]]] = []
    answered = False
    for message in messages[start:]:
        answers = message["role"] == "assistant"
        if not rounds or (not answers and answered):
            rounds.append([])
            answered = False
        rounds[-1].append(message)
        answered = answered or answers
    return messages[:start], rounds


def dealt(row: Row) -> tuple[Row, list[Row]]:
    """The head and the rounds of a sample, each with its messages and its images."""
    head, rounds = grouped(row["messages"])
    found = list(_dealt(row, [head, *rounds]))
    return found[0], found[1:]


def _dealt(row: Row, groups: Sequence[Messages]) -> Iterator[Row]:
    first = 0
    for messages in groups:
        last = first + sum(block["type"] == "image" for message in messages for block in message["content"])
        yield {**row, "messages": messages, **{name: row[name][first:last] for name in _OF_IMAGES}}
        first = last


def joined(head: Row, rounds: Sequence[Row]) -> dict[str, Any]:
    """A sample of a head and some rounds."""
    parts = [head, *rounds]
    return {**head, **{name: [one for part in parts for one in part[name]] for name in ("messages", *_OF_IMAGES)}}


def with_images(one: Row, shown: Sequence[Row]) -> Row:
    """A round that shows nothing with the images of others, before the text of its first turn that is no system's."""
    images = {name: [image for other in shown for image in other[name]] for name in _OF_IMAGES}
    messages = list(one["messages"])
    first = next((n for n, message in enumerate(messages) if message["role"] != "system"), 0)
    blocks = [{"type": "image", "text": None} for _ in images["images"]]
    messages[first] = {**messages[first], "content": [*blocks, *messages[first]["content"]]}
    return {**one, "messages": messages, **images}
