"""A conversation at a terminal: lines in, answers streamed out.

`/image PATH` shows an image with the next line, `/new` begins anew, the end of the input ends. What can't be answered
is one line, and the conversation is as it was before, without the images that waited: another question may be fine
without them.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Generator
from typing import Any, TextIO

from train.inference import asked
from train.inference.answerer import Answerer, Upstream
from train.inference.conversation import Answer, Conversation, Sampling
from train.inference.errors import PromptError
from train.inference.prompt import pictures

_HELP = "/image PATH shows an image with your next line, /new begins anew; end of input (Ctrl-D) ends"


def chat(answerer: Answerer | Upstream, sampling: Sampling, channels: bool, lines: TextIO) -> None:
    """Until the lines end."""
    if isinstance(lines, io.TextIOWrapper):
        lines.reconfigure(errors="surrogateescape")  # bytes that are no text are a question that can't be answered
    asks = lines.isatty()
    if asks:
        print(f"{answerer.name}: {_HELP}")
    said, pending = Conversation(()), tuple[bytes, ...]()
    while line := _line(lines, asks):
        command, _, rest = line.strip().partition(" ")
        try:
            if command == "/new":
                said, pending = Conversation(()), ()
            elif command == "/image":
                pending += _image(rest.strip())
            elif command.startswith("/"):
                print(_HELP)
            elif command:
                now = _with(said, asked.user(line.strip(), len(pending)), pending)
                answer = printed(answerer.stream(now, sampling))
                said, pending = _with(now, _assistant(answer.text), ()), ()
                if channels:
                    print_channels(answer)
        except PromptError as error:
            print(f"error: {error}", file=sys.stderr)
            if command != "/image" and pending:
                print(f"images that waited are forgotten: {len(pending)}", file=sys.stderr)
                pending = ()


def printed(told: Generator[str, None, Answer]) -> Answer:
    """An answer, shown piece by piece as it comes."""
    while True:
        try:
            print(next(told), end="", flush=True)
        except StopIteration as end:
            print()
            answer: Answer = end.value
            return answer


def finished(told: Generator[str, None, Answer]) -> Answer:
    """An answer, when it is whole."""
    while True:
        try:
            next(told)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


def print_channels(answer: Answer) -> None:
    for name, text in answer.channels:
        print(f"[{name}] {text}")


def _image(path: str) -> tuple[bytes, ...]:
    """What is no picture is told at once. Raises PromptError."""
    if not path:
        raise PromptError("/image shows no image; give its path, as in /image a.jpg")
    found = asked.question("", [path]).images
    pictures(found)
    return found


def _line(lines: TextIO, asks: bool) -> str:
    if asks:
        print("> ", end="", flush=True)
    return lines.readline()


def _with(said: Conversation, message: dict[str, Any], images: tuple[bytes, ...]) -> Conversation:
    return Conversation((*said.messages, message), (*said.images, *images))


def _assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}
