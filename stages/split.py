"""A conversation that is too long for one sample, as several: cut between its rounds, never inside one.

A round is a question with its answer, or all turns up to the next question. A piece takes as many rounds as fit, the
first ones first, so the same conversation is cut in the same way every time. Turns before the first question (a system
turn) begin every piece. A piece has the images of its rounds; one whose first round shows none begins with the images
that were shown last before it, for its question is about those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

Row = Mapping[str, Any]
Made = TypeVar("Made")


class RoundTooLong(ValueError):
    """A round doesn't fit into a piece of its own."""


def pieces(row: Row, make: Callable[[Row], Made | None]) -> list[Made]:
    """What `make` makes of every piece of a sample; it gives None for one that is too long. Raises RoundTooLong."""
    head, rounds = _rounds(row)
    if not rounds:
        raise RoundTooLong("it has no round")
    made, start = [], 0
    while start < len(rounds):
        found, end = _longest(head, rounds, start, make)
        made.append(found)
        start = end
    return made


def piece_id(sample_id: str, number: int, total: int) -> str:
    """The id of a piece; a sample's own ends with the number of its row, so none is another's."""
    return f"{sample_id}~{number}of{total}"


def is_of(sample_id: str, whole: str) -> bool:
    """Whether an id is a sample's or one of its pieces'."""
    return sample_id == whole or sample_id.startswith(f"{whole}~")


def _longest(head: Row, rounds: Sequence[Row], start: int, make: Callable[[Row], Made | None]) -> tuple[Made, int]:
    """The longest piece from a round on, and the round after it: found in few trials, for each is encoded."""
    best, fits, step = make(_piece(head, rounds, start, start + 1)), start + 1, 1
    if best is None:
        raise RoundTooLong(f"round {start + 1} of {len(rounds)} alone is too long")
    beyond = len(rounds) + 1
    while (end := min(fits + step, beyond - 1)) > fits:
        if (found := make(_piece(head, rounds, start, end))) is None:
            beyond, step = end, max(1, (end - fits) // 2)
        else:
            best, fits, step = found, end, step * 2
    return best, fits


def _rounds(row: Row) -> tuple[Row, list[Row]]:
    """What comes before the first question, and the rounds: each with its messages and its images."""
    messages = row["messages"]
    start = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    groups = [messages[:start]]
    for message in messages[start:]:
        if len(groups) == 1 or (message["role"] != "assistant" and _answered(groups[-1])):
            groups.append([])
        groups[-1].append(message)
    dealt = list(_dealt(row, groups))
    return dealt[0], dealt[1:]


def _answered(messages: Sequence[Mapping[str, Any]]) -> bool:
    return any(message["role"] == "assistant" for message in messages)


def _dealt(row: Row, groups: Sequence[Sequence[Mapping[str, Any]]]) -> Iterator[Row]:
    """Each group of messages with its own images."""
    first = 0
    for messages in groups:
        last = first + sum(block["type"] == "image" for message in messages for block in message["content"])
        images = {name: row[name][first:last] for name in ("images", "image_info")}
        yield {**row, "messages": messages, **images}
        first = last


def _piece(head: Row, rounds: Sequence[Row], start: int, end: int) -> Row:
    """The rounds of a piece as a sample."""
    shown = next((one for one in reversed(rounds[: start + 1]) if one["images"]), rounds[start])
    first = rounds[start] if rounds[start]["images"] or not shown["images"] else _with_images(rounds[start], shown)
    parts = [head, first, *rounds[start + 1 : end]]
    joined = {name: [one for part in parts for one in part[name]] for name in ("messages", "images", "image_info")}
    return {**head, **joined}


def _with_images(one: Row, shown: Row) -> Row:
    """A round with the images of another before its first turn's text."""
    opening, *others = one["messages"]
    blocks = [{"type": "image", "text": None} for _ in shown["images"]]
    messages = [{**opening, "content": [*blocks, *opening["content"]]}, *others]
    return {**one, "messages": messages, "images": shown["images"], "image_info": shown["image_info"]}
