"""What a model says beside its answer: Harmony's channels, told apart by token ids and never by text.

    <|channel|>analysis<|message|> ... <|end|><|start|>assistant<|channel|>final<|message|> ... <|return|>

What stands in the channel `final` is the answer; the others are kept by name. A prompt may open the channel itself, as
LLM-jp-4-VL's does. `<|end|>` ends a message, and an answer with it only in `final`. A tokenizer without such tokens has
no channels, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

FINAL = "final"
_START, _CHANNEL, _MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>")
_NEEDED = (_START, _CHANNEL, _MESSAGE, _ENDS[0])


class Words(Protocol):
    """What ids mean."""

    tokenizer: Any

    def decode(self, ids: list[int]) -> str:
        """The text of ids, without special tokens."""


def marks(chat: Words) -> dict[int, str]:
    """The tokens that tell channels apart, by their ids; none of a tokenizer that has no channels."""
    known = chat.tokenizer.get_added_vocab()
    found = {int(known[name]): name for name in (*_NEEDED, *_ENDS) if name in known}
    return found if {*_NEEDED} <= {*found.values()} else {}


class Listener:
    """Follows one answer, token by token; `prompt` says where it begins."""

    def __init__(self, chat: Words, marks: dict[int, str], prompt: Sequence[int]) -> None:
        self._chat, self._marks = chat, marks
        self._within = _MESSAGE
        self._said: list[tuple[list[int], list[int]]] = [([], [])]
        self._follow(_last_header(prompt, marks))

    def hear(self, token: int) -> bool:
        """Take the next token; whether it leaves an answer open that would else end with it."""
        open_before = self.channel != FINAL
        self._follow([token])
        return self._marks.get(token) == _ENDS[0] and open_before

    @property
    def channel(self) -> str:
        """Of the message that is said now."""
        return self._called(self._said[-1][0])

    def said(self) -> list[tuple[str, list[int]]]:
        """The messages: channel and ids of the text. An answer that never came to a message has none."""
        return [(self._called(name), ids) for name, ids in self._said if name or ids]

    def _follow(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            mark = self._marks.get(token)
            if mark == _START:
                self._said.append(([], []))
            if mark is not None:
                self._within = mark
            elif self._within in (_CHANNEL, _MESSAGE):
                self._said[-1][self._within == _MESSAGE].append(token)

    def _called(self, name: list[int]) -> str:
        """The first word of a channel's header; a message without one is final."""
        words = self._chat.decode(name).split()
        return words[0] if words else FINAL


def shown(chat: Words, listener: Listener) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What a person sees, and the other channels."""
    said = [(name, chat.decode(part).strip()) for name, part in listener.said()]
    text = "\n".join(part for name, part in said if name == FINAL)
    return text, tuple((name, part) for name, part in said if name != FINAL)


def _last_header(prompt: Sequence[int], marks: dict[int, str]) -> list[int]:
    """The header that a prompt ends with, so far as it is there."""
    starts = [place for place, token in enumerate(prompt) if marks.get(token) == _START]
    return list(prompt[starts[-1] :]) if starts else []
