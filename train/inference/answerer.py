"""Conversations in, answers out.

    from train.inference import Answerer
    answerer = Answerer.open("out/model")
    print(answerer.answer([{"role": "user", "content": [{"type": "image", "image": "a.jpg"}, ...]}]))

A million go through `answers` as well: conversations are taken one after the other as slots become free, and answers
come as they are finished. What can't be answered is an answer that says why (`finish` "error").
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from schemas.strict import RecipeError
from stages.chat import ChatError
from train.inference import asked
from train.inference.channels import Listener, marks, shown
from train.inference.conversation import Answer, Conversation, Sampling
from train.inference.engine import Engine, Request, Told
from train.inference.errors import OpenError, PromptError
from train.inference.feed import Feed
from train.inference.opened import Opened, is_own, located, opened
from train.inference.prompt import Prompts
from train.inference.upstream import Upstream
from train.models.lazy import WeightsError

SLOTS = 16
GREEDY = Sampling()
_NONE: tuple[tuple[str, str], ...] = ()
_THREADS = min(8, max(1, (os.cpu_count() or 1) // 2))


class Answerer:
    """A model with its chat format. `slots`: how many are answered side by side."""

    def __init__(self, of: Opened, slots: int = SLOTS) -> None:
        self.of = of
        self._prompts = Prompts(of.chat, of.facts, of.context)
        self._marks, self._header = marks(of.chat), of.chat.header  # it is laid out before there are threads
        self._engine = Engine(of.model, of.facts, slots)
        self._window = 2 * slots

    @classmethod
    def open(
        cls,
        place: str | Path,
        slots: int = SLOTS,
        trust_remote_code: bool = False,
        device: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Answerer | Upstream:
        """Of a config, a run, a checkpoint, an export or an upstream folder (opened.py); what our own classes can't
        represent by transformers' (upstream.py). Raises OpenError and what reading raises, one line each."""
        folder = located(place, trust_remote_code)
        try:
            return cls(opened(folder, device, dtype), slots)
        except (OpenError, ChatError, WeightsError, RecipeError) as error:
            if is_own(folder):
                raise
            why = str(error)
        try:
            found = Upstream(folder, trust_remote_code, device, dtype)
        except OpenError as error:
            raise OpenError(f"{error}; our own classes don't read it: {why}") from None
        print(f"note: transformers answers, one at a time; our own classes don't read it: {why}", file=sys.stderr)
        return found

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def folder(self) -> Path:
        return self.of.folder

    @property
    def identity(self) -> dict[str, str]:
        return self.of.identity

    def answer(
        self, messages: Sequence[Any], images: Sequence[str | Path | bytes] = (), sampling: Sampling = GREEDY
    ) -> str:
        """The text of one answer. An image stands in its block (`{"type": "image", "image": "a.jpg"}`) or, for blocks
        without one, in `images`, in order. Raises PromptError."""
        return "".join(self.stream(asked.conversation(messages, images), sampling))

    def answers(
        self, conversations: Iterable[Conversation], sampling: Sampling = GREEDY
    ) -> Iterator[tuple[int, Answer]]:
        """Numbers of conversations, from 0, and their answers, in the order in which these are finished."""
        failed: dict[int, Answer] = {}
        for told in self._run(conversations, sampling, failed):
            if told.finish:
                yield told.request.number, self._answer(told)
            while failed:
                yield failed.popitem()
        yield from failed.items()

    def stream(self, conversation: Conversation, sampling: Sampling = GREEDY) -> Generator[str, None, Answer]:
        """The text of one answer, piece by piece; in the end the answer itself is returned. Raises PromptError."""
        failed: dict[int, Answer] = {}
        shown, answer = "", Answer("")
        for told in self._run([conversation], sampling, failed):
            answer = self._answer(told)
            text = "" if self._in_header(told) else answer.text
            # Half a character is not shown; white space waits for what comes after it
            if told.finish or (text.startswith(shown) and not text.endswith("\ufffd")):
                yield text[len(shown) :]
                shown = text
        if failed:
            raise PromptError(failed[0].error or "")
        return answer

    def _run(
        self, conversations: Iterable[Conversation], sampling: Sampling, failed: dict[int, Answer]
    ) -> Iterator[Told]:
        def request(number: int, conversation: Conversation) -> Request | None:
            try:
                return self._request(number, conversation, conversation.sampling or sampling)
            except PromptError as error:
                failed[number] = Answer("", "error", str(error))
                return None

        feed = Feed(conversations, request, self._window, _THREADS)
        try:
            yield from self._engine.run(feed)
        finally:
            feed.close()

    def _request(self, number: int, conversation: Conversation, sampling: Sampling) -> Request:
        prompt = self._prompts.of(conversation)
        listener = Listener(self.of.chat, self._marks, prompt.ids.tolist()) if self._marks else None

        def ends(token: int) -> bool:
            goes_on = listener is not None and listener.hear(token)
            return token in self.of.stops and not goes_on

        most = min(sampling.max_new_tokens, self.of.context - len(prompt.ids))
        return Request(number, prompt, sampling, most, ends, listener)

    def _answer(self, told: Told) -> Answer:
        """What was said until now."""
        request, finish = told.request, told.finish or "length"
        ids = request.tokens[:-1] if finish == "stop" else request.tokens
        text, channels = self.of.chat.answer(ids), _NONE
        if request.listener is not None:
            text, channels = shown(self.of.chat, request.listener)
        return Answer(text, finish, None, channels, len(request.prompt.ids), len(request.tokens))

    def _in_header(self, told: Told) -> bool:
        """Whether the model still says what its template has before every answer."""
        said = self.of.chat.decode(told.request.tokens)
        return not told.finish and self._header.startswith(said)
