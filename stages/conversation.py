"""One conversation on its way to ids: looked at once, and encoded as often as it has to be and no more.

Whoever makes a row of it asks whether it is far too long, how long its text alone is (for a grid that the text limits),
and then for its ids. Images come as the arrays of their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.chat_layout import Shape
from stages.chat_pieces import Joined, Span
from stages.chat_plan import Fixed, Plans, Said, spoken, targets
from stages.plain_text import PlainText

Message = Mapping[str, Any]
_TEXT: tuple[str, ...] = ("text",)


class Turns:
    """What a layout is chosen by, and the texts that it is filled with: None for an image. `apart`: whether
    neighbouring texts stay two blocks."""

    texts: list[str | None]
    shape: Shape

    def __init__(self, messages: Sequence[Message], apart: bool = False) -> None:
        texts, shape, bearing = [], [], []
        for message in messages:
            role, content = message["role"], message["content"]
            if len(content) == 1 and content[0]["type"] == "text":
                texts.append(content[0]["text"])
                shape.append((role, _TEXT))
            else:
                said = [block.get("text") for block in content] if apart else joined(content)
                texts += said
                shape.append((role, tuple("image" if text is None else "text" for text in said)))
            bearing.append(role == "assistant" and message.get("loss") is not False)
        self.texts, self.shape = texts, tuple(shape)
        self.bearing = tuple(bearing)
        self.num_answers: int = sum(role == "assistant" for role, _ in shape)
        self.num_characters = sum(len(text) for text in self.texts if text is not None)


@dataclass(frozen=True)
class Means:
    """What a chat format has for all conversations.

    `given`: what the layout is given of one; `apart`: whether its neighbouring texts stay two blocks; `tags`: words
    that its template may look for in texts; `check` raises TemplateRefuses if it does, and makes something else of
    these.
    """

    plans: Plans
    plain: PlainText
    has_ends: bool
    given: Callable[[Sequence[Message]], Sequence[Message]]
    apart: bool
    tags: Sequence[str]
    check: Callable[[Turns, bool], None]


class Conversation:
    """Raises TemplateRefuses and ControlText, whatever it is asked."""

    def __init__(self, messages: Sequence[Message], means: Means) -> None:
        self._messages, self._means = messages, means
        self._turns = Turns(means.given(messages), means.apart)
        self._known: dict[tuple[str, bool], list[int]] | None = None

    def at_least(self, images: Sequence[np.ndarray]) -> int:
        """A number of tokens that it surely has, without laying it out or encoding it."""
        texts = sum(self._means.plain.at_least(text) for text in self._turns.texts if text is not None)
        return self._beside_text(images) + texts

    def surely_beyond(self, limit: int, images: Sequence[np.ndarray]) -> int | None:
        """`at_least`, if that is beyond a limit. A token a character is as good as beyond what a text surely has."""
        if self._beside_text(images) + self._turns.num_characters <= limit:
            return None
        return least if (least := self.at_least(images)) > limit else None

    def count_text(self, prompt: bool) -> int:
        """Its tokens, or those of its prompt, as if its images were not there."""
        blocks = ([block for block in message["content"] if block["type"] == "text"] for message in self._messages)
        bare = [{**message, "content": content} for message, content in zip(self._messages, blocks, strict=True)]
        turns, count = Turns(self._means.given(bare), self._means.apart), 0
        self._known = {}  # the ids will be asked for next
        for step in self._plan(turns, prompt):
            if isinstance(step, Said):
                count += len(self._ids(step.text(turns.texts), not count))
            elif isinstance(step, Fixed):
                count += len(step.ids)
        return count

    def encode(self, images: Sequence[np.ndarray], prompt: bool) -> Joined:
        """Ids and spans of it, or of its prompt."""
        if self._turns.texts.count(None) != len(images):
            raise ValueError(f"{len(images)} image lengths for the images of {self._turns.shape}")
        out = Joined()
        for step in self._plan(self._turns, prompt):
            if isinstance(step, Said):
                out.add(*self._said(step, first=not out.length))
            elif isinstance(step, Fixed):
                out.add(step.ids, step.targets, step.changes)
            else:
                out.show(images[step.number])
        return out

    def _plan(self, turns: Turns, prompt: bool) -> Sequence[Any]:
        plan = self._means.plans.of(turns.shape, turns.bearing, prompt)
        if any(tag in text for tag in self._means.tags for text in turns.texts if text is not None):
            self._means.check(turns, prompt)
        return plan

    def _said(self, step: Said, first: bool) -> tuple[list[int], Sequence[Span]]:
        """The ids of a stretch, and its targets."""
        text = step.text(self._turns.texts)
        if step.target is not None:
            ids = self._ids(text, first)
            return ids, [(0, len(ids))] if step.target and text else ()
        if step.head is not None and not first:
            ids, length = self._ids(text, first), len(step.head)
            if ids[:length] == step.head:
                return ids, [(length, len(ids))]
        ranges = targets(step.parts, spoken(step.parts, self._turns.texts))
        return self._means.plain.divided(text, first, ranges)

    def _ids(self, text: str, first: bool) -> list[int]:
        """The ids of a text; asked twice, they are encoded once."""
        if self._known is None:
            return self._means.plain.ids(text, first)
        ids = self._known.get((text, first))
        if ids is None:
            ids = self._known[text, first] = self._means.plain.ids(text, first)
        return ids

    def _beside_text(self, images: Sequence[np.ndarray]) -> int:
        """Tokens of images and those that end answers."""
        return sum(map(len, images)) + self._turns.num_answers * self._means.has_ends


def joined(content: Iterable[Mapping[str, Any]]) -> list[str | None]:
    """The blocks of a turn, None for an image; neighbouring texts are one, however many blocks they came in."""
    found: list[str | None] = []
    texts: list[str] = []
    for block in (*content, None):
        if block is not None and block["type"] == "text":
            texts.append(block["text"])
            continue
        found += ["".join(texts)] if texts else []
        texts = []
        found += [] if block is None else [None]
    return found
