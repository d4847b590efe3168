"""What is written and shown while training: `log.jsonl` (every step), lines or a bar (every `log_every` steps),
`summary.json`.

The log is cut back to the checkpoint's step when a run is resumed, so each step stands in it once, in order.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn

LOG, SUMMARY = "log.jsonl", "summary.json"
_MEAN_OVER = 20  # steps in the first and last loss of a summary


@dataclass(frozen=True)
class Line:
    """One step. `loss` is the mean over the step's target tokens."""

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
    seconds = sum(line.seconds for line in lines)
    return {
        "steps": len(lines),
        "samples": sum(line.samples for line in lines),
        "tokens": sum(line.tokens for line in lines),
        "target_tokens": sum(line.targets for line in lines),
        "first_loss": fmean(line.loss for line in lines[:_MEAN_OVER]),
        "last_loss": fmean(line.loss for line in lines[-_MEAN_OVER:]),
        "seconds": seconds,
        "samples_per_second": sum(line.samples for line in lines) / seconds,
        "parameters": parameters,
        "checkpoint": checkpoint,
    }


class Show:
    """Progress for people: a bar on a terminal, plain lines everywhere else."""

    def __init__(self, total: int, every: int) -> None:
        self.total, self.every = total, every
        self._recent: list[Line] = []
        self._bar = Progress(BarColumn(), TextColumn("{task.description}")) if sys.stdout.isatty() else None
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
    last, seconds = lines[-1], sum(line.seconds for line in lines)
    left = round((total - last.step) * seconds / len(lines))
    loss = fmean(line.loss for line in lines)
    samples, tokens = (sum(getattr(line, name) for line in lines) / seconds for name in ("samples", "tokens"))
    return (
        f"step {last.step}/{total}  epoch {last.epoch + 1}  loss {loss:.4f}  {samples:,.0f} samples/s  "
        f"{tokens:,.0f} tokens/s  left {left // 60}:{left % 60:02d}"
    )
