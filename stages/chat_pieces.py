"""A conversation between its layout and its ids: pieces of plain text, what stands between them, spans of targets."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass
class Piece:
    """A stretch of plain text between control ids, with the character ranges in it that are targets."""

    texts: list[str] = field(default_factory=list)
    length: int = 0
    targets: list[tuple[int, int]] = field(default_factory=list)

    def add(self, text: str, target: bool = False) -> None:
        start, self.length = self.length, self.length + len(text)
        self.texts.append(text)
        if target:
            add_span(self.targets, start, self.length)


Item = Piece | tuple[str, int]
"""A piece of text; or ("image", its number), or a control id by what it is for the labels: `id`, `header`, `end`."""


def open_piece(items: list[Item]) -> Piece:
    """The open piece at the end of `items`, or a new one."""
    if not items or not isinstance(items[-1], Piece):
        items.append(Piece())
    last = items[-1]
    assert isinstance(last, Piece)
    return last


def token_ranges(offsets: Sequence[tuple[int, int]], targets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Of each character range the tokens whose first character lies in it; ranges come in order and don't overlap."""
    begins = [begin for begin, _ in targets]
    inside: dict[int, tuple[int, int]] = {}
    for i, (first, _) in enumerate(offsets):
        number = bisect.bisect_right(begins, first) - 1
        if number >= 0 and first < targets[number][1]:
            inside[number] = (inside.get(number, (i, i))[0], i + 1)
    yield from (inside[number] for number in sorted(inside))


def add_span(spans: list[tuple[int, int]], start: int, end: int) -> None:
    """Append a span, joined to the previous one where they touch."""
    if start == end:
        return
    if spans and spans[-1][1] == start:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))
