"""A chat template at work, in a process of its own.

A template is a program that came with a tokenizer. The sandbox that it is written for keeps it from files and from
Python's insides, but not from a loop without end or a text that fills the memory. So it runs beside us, in one small
process that has bounded memory and bounded time for each answer; whatever goes wrong there is an answer too, one line.
Nothing in it is left to chance or to the clock: the same conversation is laid out the same way every time.

This is the side that asks, a line of JSON for a line; stages/template_process.py answers.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.tokenizer_folder import ChatError

SECONDS = 5  # of CPU, for one answer
MEMORY = 1 << 30  # bytes of address space
LENGTH = 16 << 20  # characters of one answer


class TemplateRefuses(ValueError):
    """The chat template can't lay out a conversation of this shape: the sample's fault, not the format's."""


class TemplateOverruns(TemplateRefuses):
    """It refuses by a limit: of time, memory or length."""


class Template:
    """A template's source, the variables that it may use beside the conversation, and the date it takes for today."""

    def __init__(self, source: str, variables: Mapping[str, Any], date: str | None = None) -> None:
        self._given = {"source": source, "variables": dict(variables), "date": date}

    def render(self, messages: Sequence[Mapping[str, Any]], prompt: bool) -> str:
        """What it prints for messages whose contents are texts. Raises TemplateRefuses."""
        return str(_asked({**self._given, "messages": messages, "prompt": prompt}))

    def words(self) -> list[str]:
        """The literal text in it, and the texts in its expressions. Raises TemplateRefuses."""
        return [str(word) for word in _asked(self._given)]


_lock = threading.Lock()
_running: tuple[int, subprocess.Popen[str]] | None = None


def _asked(request: Mapping[str, Any]) -> Any:
    """The answer of the process, which is started when first asked and when an answer has ended it."""
    with _lock:
        for last in (False, True):
            process = _process()
            try:
                answer = _answer(process, json.dumps(request))
            except BaseException:
                _end()  # an answer may be under way that would be taken for the next one
                raise
            if answer:
                break
            code = process.wait()
            _end()
            if code == -signal.SIGXCPU:
                raise TemplateOverruns(f"the chat template does not come to an end in {SECONDS} s")
            if last:
                raise ChatError(f"the process that runs chat templates ended with code {code}, and again; run again")
    found = json.loads(answer)
    if "overruns" in found:
        raise TemplateOverruns(found["overruns"])
    if "refuses" in found:
        raise TemplateRefuses(found["refuses"])
    return found["answer"]


def _answer(process: subprocess.Popen[str], request: str) -> str:
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(request + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    return process.stdout.readline()


def _process() -> subprocess.Popen[str]:
    global _running
    if _running is None or _running[0] != os.getpid():  # a fork has its parent's, which answers the parent
        program = str(Path(__file__).with_name("template_process.py"))
        process = subprocess.Popen(
            # -P: our own folder is no place to import from
            [sys.executable, "-P", program, str(SECONDS), str(MEMORY), str(LENGTH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONHASHSEED": "0"},  # sets have an order too
        )
        _running = os.getpid(), process
    return _running[1]


@atexit.register
def _end() -> None:
    global _running
    if _running is not None and _running[0] == os.getpid():
        process = _running[1]
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not yet written was for the one that ended
                    pipe.close()
        process.wait()
    _running = None
