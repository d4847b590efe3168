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
class Conversation:
    messages: tuple[dict[str, Any], ...]
    images: tuple[bytes, ...] = ()


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


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy; a request's draws depend on its `seed` alone."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Answers(Protocol):
    """Whoever answers. Numbers are those of the conversations, from 0; answers come as they are finished."""

    def answers(
        self, conversations: Iterable[Conversation], sampling: Sampling = ...
    ) -> Iterator[tuple[int, Answer]]: ...
