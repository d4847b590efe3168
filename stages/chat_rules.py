"""What a recipe says of a system's chat beside the tokenizer's own template: the keys under `pretokenise.chat`.

labels   which tokens of an assistant turn bear loss. Always its content and the token that ends the turn; and of the
         turn's header what the template does not print where it asks for an answer, for the model has to say that
         itself (Harmony's channel where the prompt stops at `<|start|>assistant`, the empty `<think>` block that
         Qwen3's template puts into the last turn).
"""

from __future__ import annotations

from dataclasses import dataclass, field


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

    labels: LabelRule = field(default_factory=LabelRule)


DEFAULTS = ChatRules()
