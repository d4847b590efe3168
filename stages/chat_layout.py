"""A chat template's layouts: where the turns' texts and images stand in what it prints, and what it prints around them.

The template is rendered with private marks in place of every text and image, so it decides the layout and never sees
the content. One layout serves all conversations of a shape (roles, and the order of texts and images in each turn);
those used last are remembered, up to a number of bytes.
"""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from stages.chat_template import TemplateRefuses

# Private-use characters: template code has no business with them, and content is put in only after rendering.
_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")
# White space that no template prints: where it is gone from around a turn, the template trims that turn's content.
_EDGE = "\u205f\u3000\u205f"

ROLES = {"system", "user", "assistant"}
MEMORY = 16 * 1024 * 1024  # bytes of layouts that are remembered

Shape = tuple[tuple[str, tuple[str, ...]], ...]
"""Of each turn its role and the kinds of its blocks, `text` or `image`."""

Render = Callable[[list[dict[str, Any]], bool], str]
"""(messages whose contents are texts, whether an answer is asked for) -> what the template prints."""


class Block(NamedTuple):
    """Where block `number` stands in a layout, and on which sides the template trims it."""

    number: int
    lstrip: bool
    rstrip: bool

    def printed(self, text: str) -> str:
        text = text.lstrip() if self.lstrip else text
        return text.rstrip() if self.rstrip else text


Layout = tuple[Block | str, ...]


class Layouts:
    """The layouts of a template. `forbidden`: words that it may not print itself."""

    def __init__(self, render: Render, forbidden: Iterable[str] = ()) -> None:
        self._render, self._forbidden = render, any_of(forbidden)
        self._known: OrderedDict[tuple[Shape, bool], tuple[Layout | TemplateRefuses, int]] = OrderedDict()
        self.held = 0

    def of(self, shape: Shape, prompt: bool) -> Layout:
        """The layout of a shape: what is printed and blocks, in order. Raises TemplateRefuses."""
        known = self._known.get((shape, prompt))
        if known is None:
            known = self._remembered(shape, prompt)
        else:
            self._known.move_to_end((shape, prompt))
        if isinstance(known[0], TemplateRefuses):
            raise known[0].with_traceback(None)
        return known[0]

    def _remembered(self, shape: Shape, prompt: bool) -> tuple[Layout | TemplateRefuses, int]:
        """A new layout; or a refusal, which may have cost more."""
        try:
            found: Layout | TemplateRefuses = self._laid_out(shape, prompt)
        except TemplateRefuses as error:
            found = error
        new = self._known[shape, prompt] = found, _size(shape, found)
        self.held += new[1]
        while self.held > MEMORY:
            self.held -= self._known.popitem(last=False)[1][1]
        return new

    def _laid_out(self, shape: Shape, prompt: bool) -> Layout:
        if stray := {role for role, _ in shape} - ROLES:  # all that the template sees of a row
            raise ValueError(f"role {min(stray)!r}: wanted one of {', '.join(sorted(ROLES))}")
        number, marked, firsts, lasts = 0, [], set(), set()
        for role, kinds in shape:
            numbers = range(number, number + len(kinds))
            firsts |= set(numbers[:1])
            lasts |= set(numbers[-1:])
            number += len(kinds)
            marked.append({"role": role, "content": _EDGE + "".join(map(_MARK.format, numbers)) + _EDGE})
        parts = _MARKS.split(self._render(marked, prompt))
        if parts[1::2] != list(map(str, range(number))):
            roles = ", ".join(role for role, _ in shape[:8]) + (" ..." if len(shape) > 8 else "")
            raise TemplateRefuses(f"the chat template loses or repeats content for the roles {roles}")
        layout: list[Block | str] = []
        for i, part in enumerate(parts):
            if i % 2:
                left = int(part) in firsts and not parts[i - 1].endswith(_EDGE)
                right = int(part) in lasts and not parts[i + 1].startswith(_EDGE)
                layout.append(Block(int(part), left, right))
            elif text := part.replace(_EDGE, ""):
                if found := self._forbidden.search(text):
                    raise TemplateRefuses(f"the chat template prints {found.group()!r} here, which it may not")
                layout.append(text)
        return tuple(layout)


def any_of(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of these words, the longest first; without words for nothing."""
    return re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) or "(?!)")


def _size(shape: Shape, found: Layout | TemplateRefuses) -> int:
    """The bytes that it takes to remember what was found for a shape, about."""
    keys = sum(sys.getsizeof(turn) + sys.getsizeof(turn[1]) for turn in shape)
    return keys + sum(sys.getsizeof(entry) + 8 for entry in (found if isinstance(found, tuple) else (str(found),)))
