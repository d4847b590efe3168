"""A chat template's layouts: where the turns' texts and images stand in what it prints, and what it prints around them.

The template is rendered with private marks in place of every text and image, so it decides the layout and never sees
the content. One layout serves all conversations of a shape (roles, and the order of texts and images in each turn);
those used last are remembered, up to a number of bytes.

Some templates want a turn's content as a list of blocks and print an image's token themselves, such as those of
llava-hf. They are given such lists (`image`, found by stages/template_blocks.py), and may print a turn's blocks in
another order.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
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
"""(messages, whether an answer is asked for) -> what the template prints."""

Content = str | list[dict[str, str]]
"""What a template is given of a turn: its text, or a list of blocks."""


class Block(NamedTuple):
    """Where block `number` stands in a layout, and what the template trims on its sides: None is all white space."""

    number: int
    left: str | None
    right: str | None

    @property
    def as_it_is(self) -> bool:
        return self.left == self.right == ""

    def printed(self, text: str) -> str:
        return text.lstrip(self.left).rstrip(self.right)


Layout = tuple[Block | str, ...]


class Layouts:
    """The layouts of a template. `forbidden`: words that it may not print itself; `lines`: whether it may trim line
    breaks and no other white space; `image`: what it prints for an image, if contents are to be lists of blocks."""

    def __init__(
        self, render: Render, forbidden: Iterable[str] = (), lines: bool = False, image: str | None = None
    ) -> None:
        self._render, self._forbidden, self._lines, self.image = render, any_of(forbidden), lines, image
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

    def content(self, texts: Sequence[str | None]) -> Content:
        """A turn's blocks, None for an image, as the template is given them."""
        if self.image is None:
            return "".join(text or "" for text in texts)
        return [{"type": "image"} if text is None else {"type": "text", "text": text} for text in texts]

    def _remembered(self, shape: Shape, prompt: bool) -> tuple[Layout | TemplateRefuses, int]:
        """A new layout; or a refusal, which may have cost more."""
        try:
            found: Layout | TemplateRefuses = self._laid_out(shape, prompt)
        except TemplateRefuses as error:
            found = error
        new = self._known[shape, prompt] = found, size(shape, found)
        self.held += new[1]
        while self.held > MEMORY:
            self.held -= self._known.popitem(last=False)[1][1]
        return new

    def _laid_out(self, shape: Shape, prompt: bool) -> Layout:
        if stray := {role for role, _ in shape} - ROLES:  # all that the template sees of a row
            raise ValueError(f"role {min(stray)!r}: wanted one of {', '.join(sorted(ROLES))}")
        parts = self._parts(shape, prompt)
        before = self._parts(shape, prompt, left="\n" + _EDGE) if self._lines else parts
        after = self._parts(shape, prompt, right=_EDGE + "\n") if self._lines else parts
        firsts, lasts = self._edges(shape)
        layout: list[Block | str] = []
        for i, part in enumerate(parts):
            if i % 2:
                left, right = int(part) in firsts, int(part) in lasts
                layout.append(
                    Block(
                        int(part),
                        _trimmed(parts[i - 1], before[i - 1], self._lines) if left else "",
                        _trimmed(parts[i + 1][::-1], after[i + 1][::-1], self._lines) if right else "",
                    )
                )
            elif text := part.replace(_EDGE, ""):
                if found := self._forbidden.search(text):
                    raise TemplateRefuses(f"the chat template prints {found.group()!r} here, which it may not")
                layout.append(text)
        return tuple(layout)

    def _edges(self, shape: Shape) -> tuple[set[int], set[int]]:
        """The numbers of the blocks around which the template may trim: on their left, on their right."""
        if self.image is not None:
            texts = {number for number, kind in enumerate(_kinds(shape)) if kind == "text"}
            return texts, texts
        ends = list(itertools.accumulate((len(kinds) for _, kinds in shape), initial=0))
        return set(ends[:-1]), {end - 1 for end in ends[1:]}

    def _parts(self, shape: Shape, prompt: bool, left: str = _EDGE, right: str = _EDGE) -> list[str]:
        """What the template prints of marks: its own text, the number of a block, its own text, and so on."""
        left_over, marked = itertools.count(), []
        for role, kinds in shape:
            marks = [_MARK.format(number) for _, number in zip(kinds, left_over, strict=False)]
            marked.append({"role": role, "content": self._marked(kinds, marks, left, right)})
        parts = _MARKS.split(self._with_images(self._render(marked, prompt), shape))
        if not _whole(parts[1::2], shape):
            roles = ", ".join(role for role, _ in shape[:8]) + (" ..." if len(shape) > 8 else "")
            raise TemplateRefuses(f"the chat template loses or repeats content for the roles {roles}")
        return parts

    def _marked(self, kinds: Sequence[str], marks: Sequence[str], left: str, right: str) -> Content:
        """A turn of marks with what may be trimmed around them."""
        if self.image is None:
            return left + "".join(marks) + right
        return self.content(
            [None if kind == "image" else left + mark + right for kind, mark in zip(kinds, marks, strict=True)]
        )

    def _with_images(self, printed: str, shape: Shape) -> str:
        """With a mark in place of each image that the template printed itself, in order."""
        if self.image is None:
            return printed
        first, *others = printed.split(self.image)
        numbers = [number for number, kind in enumerate(_kinds(shape)) if kind == "image"]
        if len(numbers) != len(others):
            raise TemplateRefuses(f"the chat template prints {len(others)} images of {len(numbers)}")
        marks = map(_MARK.format, numbers)
        return first + "".join(mark + other for mark, other in zip(marks, others, strict=True))


def _kinds(shape: Shape) -> list[str]:
    return [kind for _, kinds in shape for kind in kinds]


def _whole(found: Sequence[str], shape: Shape) -> bool:
    """Whether every block is there once, and turns are in their order."""
    turns = [turn for turn, (_, kinds) in enumerate(shape) for _ in kinds]
    return sorted(map(int, found)) == [*range(len(turns))] and [turns[int(number)] for number in found] == turns


def _trimmed(part: str, lined: str, lines: bool) -> str | None:
    """What is trimmed next to this part of the template's text; `lined`: the same where a line break stands there."""
    if not part.endswith(_EDGE):
        return None
    return "\n" if lines and len(lined) == len(part) else ""


def any_of(words: Iterable[str]) -> re.Pattern[str]:
    """A pattern for any of these words, the longest first; without words for nothing."""
    return re.compile("|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) or "(?!)")


def size(shape: Shape, found: Layout | TemplateRefuses) -> int:
    """The bytes that it takes to remember what was found for a shape, about."""
    keys = sum(sys.getsizeof(turn) + sys.getsizeof(turn[1]) for turn in shape)
    return keys + sum(sys.getsizeof(entry) + 8 for entry in (found if isinstance(found, tuple) else (str(found),)))
