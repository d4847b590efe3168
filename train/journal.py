"""The files that a run writes step by step: log.jsonl, samples.jsonl, validation.jsonl, evaluation.jsonl, and events
for TensorBoard.

All are cut back to the checkpoint when a run is resumed, and are on the disk before a checkpoint is: whenever the
process was killed, in the end they hold what an undisturbed run's hold, times apart.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from train import board, checkpoint, extremes, log, validation
from train.board import Board
from train.config import RunConfig
from train.evaluate import during
from train.evaluate.during import Evaluated
from train.extremes import Window, Windows
from train.log import Line
from train.metrics import Told
from train.run_folder import writing
from train.validation import Validated

STOPPED = "stopped.json"
_NAMED = 5  # samples, in a message


class Journal:
    """Of one run; what can't be written is an OutputError. Of several processes one `writes` it."""

    def __init__(self, run: RunConfig, writes: bool = True) -> None:
        if run.tensorboard:
            board.require()
        self.run, self.out, self.writes = run, Path(run.out), writes
        self.windows = Windows(run.log_every)
        self.board: Board | None = None

    def begin(self, step: int) -> list[Line]:
        """Cut everything back to a step, and return the lines up to it."""
        if not self.writes:
            return []
        with writing(self.out):
            lines = log.cut(self.out / log.LOG, step, Line)
            log.cut(self.out / extremes.SAMPLES, step, Window)
            if self.run.validation:
                log.cut(self.out / validation.VALIDATION, step, Validated)
            if self.run.evaluate:
                log.cut(self.out / during.EVALUATION, step, Evaluated)
            (self.out / STOPPED).unlink(missing_ok=True)
            if self.run.tensorboard:
                self.board = Board(self.out / board.FOLDER, step)
        return lines

    def add(self, line: Line, of: Sequence[Told]) -> None:
        """A step and its samples."""
        if not self.writes:
            return
        with writing(self.out):
            log.append(self.out / log.LOG, line)
            self._window(self.windows.add(line.step, of))
            if self.board:
                self.board.add(line)

    def validated(self, found: Validated) -> None:
        if not self.writes:
            return
        with writing(self.out):
            log.append(self.out / validation.VALIDATION, found)
            if self.board:
                self.board.validated(found)

    def evaluated(self, found: Evaluated) -> None:
        if not self.writes:
            return
        with writing(self.out):
            log.append(self.out / during.EVALUATION, found)
            if self.board:
                self.board.evaluated(found)

    def flush(self) -> None:
        """Never behind the checkpoint that comes next, not even after a power cut."""
        if not self.writes:
            return
        with writing(self.out):
            self._window(self.windows.end())
            names = (log.LOG, extremes.SAMPLES, validation.VALIDATION, during.EVALUATION)
            files = (self.out / name for name in names)
            checkpoint.flush(*(path for path in files if path.is_file()))
            if self.board:
                self.board.flush()

    def _window(self, ended: Window | None) -> None:
        if ended:
            log.append(self.out / extremes.SAMPLES, ended)

    def close(self) -> None:
        if self.board:
            self.board.close()

    def stopped(self, step: int, of: Sequence[Told]) -> str:
        """Write down the samples of a step that can't be trained, and name those to look at first."""
        first = sorted(of, key=Told.is_finite)  # stable: those that are not stand first
        named = [each.sample.sample_id for each in first if not each.is_finite()] or [t.sample.sample_id for t in first]
        rows = [{"sample_id": t.sample.sample_id, "source": t.sample.source, "loss": _number(t)} for t in first]
        if self.writes:
            with contextlib.suppress(OSError):  # the message is what counts
                log.replace(self.out / STOPPED, json.dumps({"step": step, "samples": rows}, indent=2) + "\n")
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        return f"samples {', '.join(named[:_NAMED])}{more}, all of the step are in {self.out / STOPPED}"


def _number(of: Told) -> float | None:
    return of.mean if of.is_finite() else None
