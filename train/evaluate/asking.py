"""A question of a benchmark -> what the model is asked, once or once for each rotation of its options.

The last text of the user is put through the benchmark's prompt; pictures stay where the sample has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from schemas.benchmark import Scoring
from train.evaluate.benchmark import Question
from train.evaluate.metrics import choice
from train.inference.conversation import Conversation

_FIELDS = re.compile(r"\{(question|choices)\}")


@dataclass(frozen=True)
class Asked:
    """One thing that is asked. `references` and `choices` are in the order of this rotation; `prompt` is the text."""

    question: Question
    rotation: int
    references: tuple[str, ...]
    choices: tuple[str, ...]
    prompt: str
    conversation: Conversation

    @property
    def key(self) -> tuple[str, int]:
        return self.question.sample_id, self.rotation


def asks(questions: Iterable[Question], scoring: Scoring, rotations: bool) -> Iterator[Asked]:
    """Each question once; with `rotations` once for every rotation of its options, if it has any."""
    for question in questions:
        turns = len(question.choices) if rotations and scoring.metric == "multiple_choice" else 1
        for by in range(max(1, turns)):
            yield ask(question, scoring, by)


def ask(question: Question, scoring: Scoring, rotation: int = 0) -> Asked:
    options = choice.rotated(question.choices, rotation)
    right = question.references
    if options:
        right = tuple(choice.moved(right, rotation, len(options)))
    text = prompted(scoring.prompt, last_text(question), options)
    said = Conversation(_with(question.messages, text), question.images)
    return Asked(question, rotation, right, tuple(options), text, said)


def prompted(prompt: str, question: str, options: Iterable[str]) -> str:
    """The prompt with its two fields filled in at once: braces of a question are text."""
    lines = "\n".join(f"{name}. {text}" for name, text in zip(choice.LETTERS, options, strict=False))
    return _FIELDS.sub(lambda field: question if field[1] == "question" else lines, prompt).strip()


def last_text(question: Question) -> str:
    place = _place(question.messages)
    return str(question.messages[-1]["content"][place]["text"]) if place is not None else ""


def _place(messages: tuple[dict[str, Any], ...]) -> int | None:
    blocks = messages[-1]["content"] if messages else []
    return max((number for number, block in enumerate(blocks) if block["type"] == "text"), default=None)


def _with(messages: tuple[dict[str, Any], ...], text: str) -> tuple[dict[str, Any], ...]:
    """The messages with another last text."""
    place, new = _place(messages), {"type": "text", "text": text}
    if place is None:
        blocks = [*messages[-1]["content"], new] if messages else [new]
    else:
        blocks = [*messages[-1]["content"]]
        blocks[place] = new
    return (*messages[:-1], {"role": "user", "content": blocks})


def without_images(asked: Asked) -> Asked:
    """What is remembered while the answer is awaited."""
    bare = replace(asked.question, images=())
    return replace(asked, question=bare, conversation=Conversation(asked.conversation.messages))
