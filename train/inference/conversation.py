"""What is asked and what is answered.

A conversation has the chat-template shape that samples have: messages of blocks, `{"type": "text", "text": ...}` or
`{"type": "image"}`, and the images as encoded files, taken in order. The last message is what is to be answered.

An answer is a text, or the one line why there is none: among many, one that can't be answered stops no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Finish = Literal["stop", "length", "error"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy; a request's draws depend on its `seed` alone. Raises
    ValueError for a value that is none."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (_is(self.max_new_tokens, int) and self.max_new_tokens > 0):
            raise ValueError(f"max_new_tokens: got {self.max_new_tokens!r}, wanted a whole number from 1")
        if not (_is(self.temperature, int, float) and 0 <= self.temperature < float("inf")):
            raise ValueError(f"temperature: got {self.temperature!r}, wanted a number from 0")
        if not (_is(self.top_p, int, float) and 0 < self.top_p <= 1):
            raise ValueError(f"top_p: got {self.top_p!r}, wanted a number above 0 and up to 1")
        if not (_is(self.seed, int) and -(2**63) <= self.seed < 2**63):
            raise ValueError(f"seed: got {self.seed!r}, wanted a whole number of 64 bits")


@dataclass(frozen=True)
class Conversation:
    """`sampling`: its own, if it is not to be answered as the others are."""

    messages: tuple[dict[str, Any], ...]
    images: tuple[bytes, ...] = ()
    sampling: Sampling | None = None


@dataclass(frozen=True)
class Answer:
    """`text` is what a person sees, `channels` what the model said beside it (name, text), in its order; `finish` says
    why it ended: a stop token, the most tokens allowed, or an error, which `error` tells then."""

    text: str
    finish: Finish = "stop"
    error: str | None = None
    channels: tuple[tuple[str, str], ...] = ()
    prompt_tokens: int = 0
    tokens: int = 0


class Answers(Protocol):
    """Whoever answers. Numbers are those of the conversations, from 0; answers come as they are finished. `sampling` is
    for conversations that have none of their own."""

    def answers(
        self, conversations: Iterable[Conversation], sampling: Sampling = ...
    ) -> Iterator[tuple[int, Answer]]: ...


def _is(value: Any, *kinds: type) -> bool:
    """A number of JSON: true and false are none."""
    return isinstance(value, kinds) and not isinstance(value, bool)
