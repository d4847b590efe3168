"""What is written and shown while training: `log.jsonl` (every step), lines or a bar (every `log_every` steps),
`summary.json`.

The log is cut back to the checkpoint's step when a run is resumed, so each step stands in it once, in order. Rates
leave out the first step after each start: it waits for files, threads and whatever is set up once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LOG, SUMMARY = "log.jsonl", "summary.json"
_MEAN_OVER = 20  # steps at most in the first and last loss of a summary, which share none
_WIDE = 200  # where a program reads, not a terminal


@dataclass(frozen=True)
class Line:
    """One step. `loss` is the mean over the step's target tokens; `started`: the first step after a start."""

    step: int
    epoch: int
    loss: float
    gradient_norm: float
    learning_rate: float
    samples: int
    tokens: int
    targets: int
    tiles: int
    packs: int
    seconds: float
    started: bool = False


def cut(path: Path, steps: int) -> list[Line]:
    """The first `steps` lines of a log; the file is rewritten to hold just them. Half a last line goes too."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = [line for line in text.splitlines(keepends=True)[:steps] if line.endswith("\n")]
    path.write_text("".join(lines), encoding="utf-8")
    return [Line(**json.loads(line)) for line in lines]


def append(path: Path, line: Line) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(line)) + "\n")


def summarise(lines: Sequence[Line], parameters: int, checkpoint: str) -> dict[str, Any]:
    span = max(1, min(_MEAN_OVER, len(lines) // 2))
    return {
        "steps": len(lines),
        "samples": sum(line.samples for line in lines),
        "tokens": sum(line.tokens for line in lines),
        "target_tokens": sum(line.targets for line in lines),
        "first_loss": fmean(line.loss for line in lines[:span]),
        "last_loss": fmean(line.loss for line in lines[-span:]),
        "steps_of_loss": span,
        "seconds": sum(line.seconds for line in lines),
        "samples_per_second": rate(lines, "samples"),
        "parameters": parameters,
        "checkpoint": checkpoint,
    }


def in_words(summary: dict[str, Any]) -> str:
    """A summary as one line."""
    span = summary["steps_of_loss"]
    steps = "step" if span == 1 else f"{span} steps"
    return (
        f"{summary['steps']:,} steps, {summary['samples']:,} samples in {summary['seconds']:,.0f} s, "
        f"{summary['samples_per_second']:,.0f} samples/s: loss {summary['first_loss']:.4f} -> "
        f"{summary['last_loss']:.4f} (mean of the first and of the last {steps})"
    )


def rate(lines: Sequence[Line], name: Literal["samples", "tokens"]) -> float:
    """So many a second, of the steps that show it."""
    timed = _timed(lines)
    return float(sum(getattr(line, name) for line in timed) / sum(line.seconds for line in timed))


def console() -> Console:
    """As wide as the terminal; wide enough for a table where there is none."""
    return Console(width=None if sys.stdout.isatty() else _WIDE, markup=False, emoji=False)


class Show:
    """Progress for people: a bar on a terminal, plain lines everywhere else."""

    def __init__(self, total: int, every: int) -> None:
        self.total, self.every = total, every
        self._recent: list[Line] = []
        self._bar = (
            Progress(BarColumn(bar_width=None), TextColumn("{task.description}")) if sys.stdout.isatty() else None
        )
        self._task = self._bar.add_task("", total=total) if self._bar else None

    def __enter__(self) -> Show:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, line: Line) -> None:
        self._recent.append(line)
        if line.step % self.every and line.step != self.total:
            return
        text = describe(self._recent, self.total)
        self._recent = []
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=line.step, description=text)
        else:
            print(text, flush=True)


def describe(lines: Sequence[Line], total: int) -> str:
    """One line on the last few steps: mean loss, speed, time left at that speed."""
    last, loss = lines[-1], fmean(line.loss for line in lines)
    left = round((total - last.step) * fmean(line.seconds for line in _timed(lines)))
    return (
        f"step {last.step}/{total}  epoch {last.epoch + 1}  loss {loss:.4f}  {rate(lines, 'samples'):,.0f} samples/s  "
        f"{rate(lines, 'tokens'):,.0f} tokens/s  left {left // 60}:{left % 60:02d}"
    )


def _timed(lines: Sequence[Line]) -> Sequence[Line]:
    return [line for line in lines if not line.started] or lines
