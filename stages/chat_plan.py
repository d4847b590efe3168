"""A layout made ready for the texts of any conversation of its shape: what is the same for all of them is done once.

Of a layout and of who bears loss in it follow the control ids, the places of texts and images, and which parts are
targets. Layout text between two control ids is encoded here; a stretch of text that holds a block is left open, with
what is fixed around the block. Plans used last are remembered, as layouts are.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import OrderedDict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stages import chat_layout
from stages.chat_layout import Block, Layout, Layouts, Shape
from stages.chat_pieces import Joined, Span, add_span
from stages.labels import Labels
from stages.plain_text import PlainText

Part = tuple[str | Block, bool]
"""Text of the layout or a block, and whether it is a target."""


@dataclass
class Stretch:
    """A stretch of plain text between control ids or images."""

    parts: list[Part] = field(default_factory=list)


Item = Stretch | tuple[str, int]
"""A stretch; or ("image", its number), or a control id by what it is for the labels: `id`, `header`, `end`."""


@dataclass(frozen=True)
class Fixed:
    """Ids that are the same in every conversation."""

    ids: list[int]
    targets: list[Span]
    changes: list[Span]


@dataclass(frozen=True)
class Shown:
    """Here stands an image."""

    number: int


@dataclass(frozen=True)
class Said:
    """A stretch with the texts of a conversation. `target`: whether it is one, None: in part. `head`: the ids of its
    first part, where they tell what of it is target: all but them. `around`: where it is one text as it is, its number
    and what stands before and after it."""

    parts: tuple[Part, ...]
    target: bool | None
    head: list[int] | None
    around: tuple[str, int, str] | None = None

    def text(self, texts: Sequence[str | None]) -> str:
        """It with the texts of its blocks."""
        if self.around is not None:
            before, number, after = self.around
            return f"{before}{texts[number]}{after}"
        return "".join(spoken(self.parts, texts))


Step = Fixed | Shown | Said
Plan = tuple[Step, ...]


class Plans:
    """The plans of a chat format; `split` finds the control tokens of `control` in the layout's text."""

    def __init__(
        self, layouts: Layouts, labels: Labels, plain: PlainText, control: Mapping[str, int], split: re.Pattern[str]
    ) -> None:
        self._layouts, self._labels, self._plain = layouts, labels, plain
        self._control, self._split = control, split
        self._known: OrderedDict[tuple[Shape, tuple[bool, ...], bool], tuple[Plan, int]] = OrderedDict()
        self.held = 0

    def of(self, shape: Shape, bearing: tuple[bool, ...], prompt: bool) -> Plan:
        """The plan of a shape in which some turns bear loss. Raises TemplateRefuses, ControlText."""
        key = shape, bearing, prompt
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known[0]
        plan = tuple(self._steps(self.items(shape, bearing, prompt)))
        self._known[key] = plan, _size(shape, plan)
        self.held += self._known[key][1]
        while self.held > chat_layout.MEMORY:
            self.held -= self._known.popitem(last=False)[1][1]
        return plan

    def items(self, shape: Shape, bearing: tuple[bool, ...], prompt: bool) -> list[Item]:
        """What a layout holds for the ids and the labels, in order."""
        layout = self._layouts.of(shape, prompt)
        blocks = [(kind, bears) for (_, kinds), bears in zip(shape, bearing, strict=True) for kind in kinds]
        return self._filled(layout, blocks, _openings(shape, bearing))

    def _filled(self, layout: Layout, blocks: Sequence[tuple[str, bool]], openings: Container[int]) -> list[Item]:
        """`openings`: the blocks that a header stands before which may bear loss."""
        items: list[Item] = []
        left, open_turn = itertools.count(), False
        for entry, then in zip(layout, (*layout, None)[1:], strict=True):
            if isinstance(entry, str):
                opens = isinstance(then, Block) and then.number in openings
                at = self._labels.header(entry) if opens else len(entry)
                open_turn = self._printed(items, entry[:at], open_turn)
                self._printed(items, entry[at:], False, header=True)
            elif blocks[entry.number][0] == "image":
                items.append(("image", next(left)))
            else:
                target = blocks[entry.number][1]
                _open(items).append((entry, target))
                open_turn = open_turn or target
        return items

    def _printed(self, items: list[Item], text: str, open_turn: bool, header: bool = False) -> bool:
        """Append layout text; the first special token after an assistant's content ends the turn and is a target."""
        position = 0
        for match in self._split.finditer(text):
            if match.start() > position:
                _open(items).append((text[position : match.start()], header))
            kind = "end" if open_turn else "header" if header else "id"
            items.append((kind, self._control[match.group()]))
            position = match.end()
            if open_turn and (after := self._labels.after_end) and text.startswith(after, position):
                _open(items).append((after, True))
                position += len(after)
            open_turn = False
        if position < len(text):
            _open(items).append((text[position:], header))
        return open_turn

    def _steps(self, items: Sequence[Item]) -> Iterator[Step]:
        fixed, control = Joined(), False
        for item in items:
            if isinstance(item, tuple) and item[0] != "image":
                self._add_control(fixed, *item)
                control = True
            elif isinstance(item, Stretch) and control and all(isinstance(part, str) for part, _ in item.parts):
                said = spoken(item.parts, ())
                fixed.add(*self._plain.divided("".join(said), False, targets(item.parts, said)))
            else:
                if fixed.length:
                    yield Fixed(*_finished(fixed))
                    fixed = Joined()
                yield self._said(item.parts) if isinstance(item, Stretch) else Shown(item[1])
        if fixed.length:
            yield Fixed(*_finished(fixed))

    def _add_control(self, fixed: Joined, kind: str, number: int) -> None:
        label = self._labels.changed(number) if kind == "end" else None
        fixed.add([number], [] if kind == "id" else [(0, 1)], [] if label is None else [(0, label)])

    def _said(self, parts: Sequence[Part]) -> Said:
        if len(kinds := {target for _, target in parts}) == 1:
            return Said(tuple(parts), kinds.pop(), None, _around(parts))
        (head, first), *others = parts
        headed = isinstance(head, str) and not first and all(target for _, target in others)
        known = self._plain.head(head) if isinstance(head, str) and headed else None
        return Said(tuple(parts), None, known, _around(parts))


def _around(parts: Sequence[Part]) -> tuple[str, int, str] | None:
    blocks = [place for place, (part, _) in enumerate(parts) if isinstance(part, Block)]
    block = parts[blocks[0]][0] if len(blocks) == 1 else None
    if not isinstance(block, Block) or not block.as_it_is:
        return None
    before, after = ("".join(spoken(some, ())) for some in (parts[: blocks[0]], parts[blocks[0] + 1 :]))
    return before, block.number, after


def spoken(parts: Sequence[Part], texts: Sequence[str | None]) -> list[str]:
    """The parts of a stretch with the texts of its blocks."""
    return [part if isinstance(part, str) else part.printed(texts[part.number] or "") for part, _ in parts]


def targets(parts: Sequence[Part], said: Sequence[str]) -> list[Span]:
    """The ranges of characters of a stretch that are targets."""
    ranges: list[Span] = []
    start = 0
    for text, (_, target) in zip(said, parts, strict=True):
        if target:
            add_span(ranges, start, start + len(text))
        start += len(text)
    return ranges


def _open(items: list[Item]) -> list[Part]:
    """The parts of the stretch at the end of `items`, or of a new one."""
    if not items or not isinstance(items[-1], Stretch):
        items.append(Stretch())
    last = items[-1]
    assert isinstance(last, Stretch)
    return last.parts


def _finished(fixed: Joined) -> tuple[list[int], list[Span], list[Span]]:
    ids, targets, _, changes = fixed.encoded()
    return ids, targets, changes


def _openings(shape: Shape, bearing: Sequence[bool]) -> set[int]:
    """The numbers of the blocks that begin an assistant's turn which bears loss."""
    counts = [len(kinds) for _, kinds in shape]
    firsts = itertools.accumulate(counts[:-1], initial=0)
    return {first for first, count, bears in zip(firsts, counts, bearing, strict=True) if bears and count}


def _size(shape: Shape, plan: Plan) -> int:
    """The bytes that it takes to remember a plan, about."""
    held = [chat_layout.size(shape, ())]
    for step in plan:
        if isinstance(step, Fixed):
            held += [200 + 40 * len(step.ids) + 160 * len(step.targets)]
        elif isinstance(step, Said):
            held += [200 + 40 * len(step.head or ()), *(160 + sys.getsizeof(part) for part, _ in step.parts)]
        else:
            held += [64]
    return sum(held)
