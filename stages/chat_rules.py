"""What a recipe says of a system's chat beside the tokenizer's own template: the keys under `pretokenise.chat`.

labels   which tokens of an assistant turn bear loss. Always its content and the token that ends the turn; and of the
         turn's header what the template does not print where it asks for an answer, for the model has to say that
         itself (Harmony's channel where the prompt stops at `<|start|>assistant`, the empty `<think>` block that
         Qwen3's template puts into the last turn).
layout   the tokenizer's own template, or one of stages/layout_table.py.
date     what a template that prints today's date is told instead: no two days would give the same tokens.
variables, image_first
         what else the template is told (`enable_thinking: false`); LLaVA's order in a user's turn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from stages.layout_table import LayoutName

_DAY = re.compile(r"[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_OURS = {"messages", "add_generation_prompt", "tools", "documents", "strftime_now", "raise_exception"}


@dataclass(frozen=True)
class LabelRule:
    """Where a system's labels differ.

    `header`: the end of an assistant turn's header that bears loss, as text, instead of what the prompt leaves to the
    model. `after_end`: text after the token that ends the turn, if that bears loss too. `ends`: the token that ends a
    turn -> what it is labelled.
    """

    header: str | None = None
    after_end: str = ""
    ends: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ChatRules:
    """How conversations are laid out and labelled."""

    layout: LayoutName = "tokenizer"
    date: str | None = None
    variables: dict[str, bool | str] = field(default_factory=dict)
    image_first: bool = False
    labels: LabelRule = field(default_factory=LabelRule)

    def __post_init__(self) -> None:
        if self.date is not None and not _DAY.fullmatch(self.date):
            raise ValueError(f'date: got {self.date!r}, wanted one like "2026-01-31"')
        if taken := sorted(_OURS & self.variables.keys()):
            raise ValueError(f"variables: {taken[0]!r} is not the recipe's to say; leave it out")


DEFAULTS = ChatRules()
