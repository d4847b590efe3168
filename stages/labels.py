"""Which part of a template's own words bears loss: a LabelRule applied to the template that it is for."""

from __future__ import annotations

from collections.abc import Mapping

from stages.chat_layout import Block, Layout, Layouts
from stages.chat_rules import LabelRule
from stages.chat_template import TemplateRefuses
from stages.tokenizer_folder import ChatError

_ASKED = (("user", ("text",)),)
_ANSWERED = (*_ASKED, ("assistant", ("text",)))


class Labels:
    """`control`: text -> id of the control tokens. Raises ChatError where the rule is none of this template's."""

    def __init__(self, rule: LabelRule, layouts: Layouts, control: Mapping[str, int]) -> None:
        self.after_end, self._header = rule.after_end, rule.header
        self._asks = _asks(layouts)
        self._ends = {_known(name, control): _known(label, control) for name, label in rule.ends.items()}
        answered = layouts.of(_ANSWERED, False)
        place = next(i for i, entry in enumerate(answered) if isinstance(entry, Block) and entry.number == 1)
        before, after = answered[place - 1], answered[place + 1 :]
        if rule.header is not None and not (isinstance(before, str) and before.endswith(rule.header)):
            raise ChatError(f"labels.header: the template prints {before!r} before an answer, not {rule.header!r}")
        if rule.after_end and not any(f"{name}{rule.after_end}" in "".join(map(str, after)) for name in control):
            raise ChatError(f"labels.after_end: the template prints {after!r} after an answer, not {rule.after_end!r}")

    def header(self, text: str) -> int:
        """Where in the layout's text before an answer the part begins that bears loss."""
        if self._header is not None:
            return len(text) - len(self._header) * text.endswith(self._header)
        place = text.rfind(self._asks)
        return len(text) if place < 0 else place + len(self._asks)

    def changed(self, end: int) -> int | None:
        """What the token that ends a turn is labelled, if not itself."""
        return self._ends.get(end)


def _asks(layouts: Layouts) -> str:
    """What the template prints to ask for an answer."""
    try:
        asked, told = (_last(layouts.of(_ASKED, prompt)) for prompt in (True, False))
    except TemplateRefuses:
        return ""  # it lays out no question alone; then headers bear no loss
    return asked.removeprefix(told) if asked.startswith(told) else ""


def _last(layout: Layout) -> str:
    return layout[-1] if isinstance(layout[-1], str) else ""


def _known(name: str, control: Mapping[str, int]) -> int:
    if name not in control:
        raise ChatError(f"labels.ends: {name!r} is no control token of this tokenizer")
    return control[name]
