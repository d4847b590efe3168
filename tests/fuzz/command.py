"""One command of the program in a process of its own: how it ended, and whether it ended as a command should.

A fork, because loading the libraries takes longer than most commands here; Ray's place is taken by this process.
"""

from __future__ import annotations

import importlib
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import cli
from pipeline.graph.task import Record, Task, do
from pipeline.run.runner import Take
from stages.chat import ChatFormat, ImageTokens
from tests.pipeline.tiny_corpus import tokenizer

SECONDS = 60  # after which a command hangs
MEMORY = 12 << 30  # bytes of address space
KILLED, BUG = 99, 98
_ONE_LINE = re.compile(r"(note: [^\n]+\n)*error: [^\n]+\n")
_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


class Failed(AssertionError):
    """The program did what it never should."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    def check(self) -> Outcome:
        """Raises Failed for a traceback, a hang, a crash, more than one line, or a raw control character."""
        said = f"{' '.join(self.arguments)}\n{self.out[-2000:]}\n{self.err[-6000:]}"
        if self.code not in (0, 1, 2, KILLED):
            raise Failed(f"ended with {self.code}: {said}")
        if self.code in (1, 2) and self.arguments[0] != "verify" and not _ONE_LINE.fullmatch(self.err):
            raise Failed(f"not one line: {said}")
        if found := _UNSHOWN.search(self.out + self.err):
            raise Failed(f"prints {found.group()!r}: {said}")
        return self


def warm() -> None:
    """Load here what each command would load, once for all."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer(Path(folder))
        ChatFormat.load(folder, ImageTokens())
    importlib.import_module("fasttext")


def command(*arguments: str, survives: int = 1 << 30) -> Outcome:
    """Run one command to its end; with `survives`, to so many tasks and no further."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            _be(arguments, survives, out.fileno(), err.fileno())
        code = _wait(child)
        out.seek(0)
        err.seek(0)
        texts = [stream.read().decode("utf-8", "surrogateescape") for stream in (out, err)]
    return Outcome(arguments, code, *texts)


def _be(arguments: tuple[str, ...], survives: int, out: int, err: int) -> None:
    code = BUG
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (open(stream, "w", encoding="utf-8", closefd=False) for stream in (1, 2))  # noqa: SIM115
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

        class Here:
            """In the place of Ray: does tasks in this process, which ends before one too many."""

            def __init__(self, *_: object) -> None:
                self.left = survives

            def begin(self) -> None: ...

            def close(self) -> None: ...

            def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
                while (task := take()) is not None:
                    if self.left == 0:
                        os._exit(KILLED)
                    self.left -= 1
                    yield task, do(task)

        cli.RayExecutor = Here  # type: ignore[misc,assignment]
        code = cli.main(arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else BUG
    except BaseException:  # noqa: BLE001  # whatever it is, it is what we look for
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int) -> int:
    until = time.monotonic() + SECONDS
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGALRM  # hangs
        time.sleep(0.005)
