"""What is written and shown while training: `log.jsonl` (every step), lines or a bar (every `log_every` steps),
`summary.json`. What else is written by the step is in journal.py.

The log is cut back to the checkpoint's step when a run is resumed, so each step stands in it once, in order. What a
summary counts follows from the plan and not from the log: a line may be lost, a step is not. Rates leave out the first
step after each start: it waits for files, threads and whatever is set up once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from schemas import strict

LOG, SUMMARY = "log.jsonl", "summary.json"
_MEAN_OVER = 20  # steps at most in the first and last loss of a summary, which share none
_WIDE = 200  # where a program reads, not a terminal


@dataclass(frozen=True)
class Line:
    """One step. `loss` is the mean over the step's target tokens as they are weighed, those by source and language are
    plain means. `seconds` hold the `waited` ones, for the loader. Norms are before clipping. `mfu`: the model's FLOPs,
    nothing computed twice, over the device's peak; null where that is not known. `memory`: the most bytes so far.
    `started`: the first step after a start."""

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
    loss_by_source: dict[str, float] = field(default_factory=dict)
    loss_by_language: dict[str, float] = field(default_factory=dict)
    gradient_norms: dict[str, float] = field(default_factory=dict)
    samples_per_second: float = 0.0
    tokens_per_second: float = 0.0
    mfu: float | None = None
    waited: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class Summary:
    """A finished run. The losses are means over the first and the last `steps_of_loss` steps, null where the log has
    none of them; `seconds` and the rate are of the steps in the log. `left_out`: the samples of the shards that it was
    made without."""

    steps: int
    samples: int
    tokens: int
    target_tokens: int
    first_loss: float | None
    last_loss: float | None
    steps_of_loss: int
    seconds: float
    samples_per_second: float
    parameters: int
    checkpoint: str
    left_out: int = 0


class Stepped(Protocol):
    """A dataclass that is a line of a file, one for a step."""

    @property
    def step(self) -> int: ...


L = TypeVar("L", bound=Stepped)


def cut(path: Path, last: int, kind: type[L]) -> list[L]:
    """The lines of the steps up to `last`, each once and in order; the file is rewritten to hold just them."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    read = (_line(line, kind) for line in text.split("\n")[:-1])
    found = {line.step: line for line in read if line and line.step <= last}
    lines = [found[step] for step in sorted(found)]
    wanted = "".join(map(_text, lines))
    if wanted != text or not path.is_file():
        replace(path, wanted)
    return lines


def _line(text: str, kind: type[L]) -> L | None:
    """What a line of a file says; None for what is no line of it."""
    try:
        return strict.build(kind, json.loads(text))
    except (ValueError, RecursionError):
        return None


def _text(line: Any) -> str:
    return json.dumps(asdict(line), ensure_ascii=False) + "\n"


def replace(path: Path, text: str) -> None:
    """Whole or as before, even when the disk is full."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def append(path: Path, line: Stepped) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(_text(line))


def summarise(lines: Sequence[Line], counts: Mapping[str, int], parameters: int, checkpoint: str) -> Summary:
    """`counts`: steps, samples, tokens, target_tokens and left_out of the whole run."""
    span = max(1, min(_MEAN_OVER, counts["steps"] // 2))
    return Summary(
        **counts,
        first_loss=_mean([line.loss for line in lines if line.step <= span]),
        last_loss=_mean([line.loss for line in lines if line.step > counts["steps"] - span]),
        steps_of_loss=span,
        seconds=sum(line.seconds for line in lines),
        samples_per_second=rate(lines, "samples"),
        parameters=parameters,
        checkpoint=checkpoint,
    )


def _mean(losses: Sequence[float]) -> float | None:
    return fmean(losses) if losses else None


def read_summary(path: Path) -> Summary | None:
    """The summary of a finished run; None if there is none or it is damaged."""
    try:
        return strict.build(Summary, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def write_summary(path: Path, summary: Summary) -> None:
    replace(path, json.dumps(asdict(summary), indent=2) + "\n")


def in_words(summary: Summary) -> str:
    """A summary as one line."""
    span = summary.steps_of_loss
    steps = "step" if span == 1 else f"{span} steps"
    first, last = (
        "not in the log" if loss is None else f"{loss:.4f}" for loss in (summary.first_loss, summary.last_loss)
    )
    return (
        f"{summary.steps:,} steps, {summary.samples:,} samples in {summary.seconds:,.0f} s, "
        f"{summary.samples_per_second:,.0f} samples/s: "
        f"loss {first} -> {last} (mean of the first and of the last {steps})"
    )


def rate(lines: Sequence[Line], name: Literal["samples", "tokens"]) -> float:
    """So many a second, of the steps that show it."""
    timed = _timed(lines)
    seconds = sum(line.seconds for line in timed)
    return sum(getattr(line, name) for line in timed) / seconds if seconds else 0.0


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
