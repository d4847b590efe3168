"""A conversation that is too long for one sample, as several: cut between its rounds, never inside one.

What a round is, stages/rounds.py says. A piece takes as many rounds as fit, the
first ones first, so the same conversation is cut in the same way every time. Turns before the first question (a system
turn) begin every piece. A piece has the images of its rounds; one whose first round shows none begins with the images
that were shown last before it, for its question is about those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from stages.rounds import Row, dealt, joined, with_images

Made = TypeVar("Made")


class RoundTooLong(ValueError):
    """A round doesn't fit into a piece of its own."""


def pieces(row: Row, make: Callable[[Row], Made | None]) -> list[Made]:
    """What `make` makes of every piece of a sample; it gives None for one that is too long. Raises RoundTooLong."""
    head, rounds = dealt(row)
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


def _piece(head: Row, rounds: Sequence[Row], start: int, end: int) -> Row:
    """The rounds of a piece as a sample."""
    shown = next((one for one in reversed(rounds[: start + 1]) if one["images"]), rounds[start])
    first = rounds[start] if rounds[start]["images"] or not shown["images"] else with_images(rounds[start], [shown])
    return joined(head, [first, *rounds[start + 1 : end]])
