"""What comes of a conversation's pieces: ids in parts, and the spans of what bears loss and of what images own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Span = tuple[int, int]


class Encoded(NamedTuple):
    """Token ids of one conversation; spans are half-open, image_spans are (start, num_tokens) with framing.

    `label_changes`: (position, id) of the targets that are labelled as another token than they are.
    """

    input_ids: list[int]
    target_spans: list[Span]
    image_spans: list[Span]
    label_changes: list[Span]


class Joined:
    """The same while it is put together, with the ids in parts: lists of texts' and arrays of images', in turn."""

    def __init__(self) -> None:
        self._parts: list[list[int] | np.ndarray] = []
        self._text: list[int] = []
        self.length = 0
        self.target_spans: list[Span] = []
        self.image_spans: list[Span] = []
        self.label_changes: list[Span] = []

    def add(self, ids: Sequence[int], targets: Sequence[Span], changes: Sequence[Span] = ()) -> None:
        """Append ids of text, with the targets and the label changes among them."""
        start = self.length
        self._text.extend(ids)
        self.length = start + len(ids)
        for begin, end in targets:
            add_span(self.target_spans, start + begin, start + end)
        for position, label in changes:
            self.label_changes.append((start + position, label))

    def show(self, ids: np.ndarray) -> None:
        """Append an image."""
        self.image_spans.append((self.length, len(ids)))
        self._parts += [self._text, ids]
        self._text = []
        self.length += len(ids)

    def array(self) -> np.ndarray:
        """The ids, int32."""
        found, at = np.empty(self.length, np.int32), 0
        for part in (*self._parts, self._text):
            found[at : at + len(part)] = part
            at += len(part)
        return found

    def encoded(self) -> Encoded:
        ids: list[int] = []
        for part in (*self._parts, self._text):
            ids += part.tolist() if isinstance(part, np.ndarray) else part
        return Encoded(ids, self.target_spans, self.image_spans, self.label_changes)


def add_span(spans: list[Span], start: int, end: int) -> None:
    """Append a span, joined to the previous one where they touch."""
    if start == end:
        return
    if spans and spans[-1][1] == start:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))
