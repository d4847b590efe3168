"""Checkpoints are written beside the steps: copied at once, put on the disk by a thread while training goes on.

One is written at a time; the next waits for it. A write that failed ends the run at the next step or at the end, on
all ranks at the same place. The threads of the ranks talk to each other over a line of their own.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from train import run_folder
from train.checkpoint import Files, Parts, Record
from train.distributed.processes import World
from train.run_folder import Keep


class Saver:
    def __init__(self, out: Path, tokenizer: Files, world: World, keep: Keep) -> None:
        self.out, self.tokenizer, self.keep = out, tokenizer, keep
        self.world, self._beside = world, world.beside()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._writing: Future[Path] | None = None
        self.folder: Path | None = None  # the newest that is whole

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        """What is being written is finished, unless an error ends the run."""
        self._pool.shutdown()
        if kind is None:
            self.wait()

    def begin(self, record: Record, parts: Parts) -> None:
        self.wait()
        self._writing = self._pool.submit(
            run_folder.save, self.out, record, parts, self.tokenizer, self._beside, self.keep
        )

    def wait(self) -> None:
        """Until nothing is being written. Raises OutputError."""
        with self.world.agreed():
            if self._writing:
                self.folder = self._writing.result()
        self._writing = None

    def check(self) -> None:
        """Raise the OutputError of a write that has failed by now, on whichever rank."""
        failed = self._writing is not None and self._writing.done() and self._writing.exception() is not None
        if self.world.sum(failed):
            self.wait()
