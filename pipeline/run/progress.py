"""What a person sees while steps run: parts, samples/s (or MB/s), time left, what was left out so far.

On a terminal a line per step at work is rewritten; elsewhere (a log file, a Ray job) each prints a line every ten
seconds. Every step ends with one line that stays. A rate counts from when the first task began its work: starting Ray
and its workers is no matter of the data.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from schemas.manifest import Counts

_EVERY = 10.0  # seconds between the lines of a log
_BLINK = 0.2  # and between two looks at a terminal's: a look costs a moment for every task that is not done


class StepProgress:
    """One step at work. `word`: what its parts are called; `amount`: of all of them, in `unit`; `live`: how much of
    unfinished ones is there already."""

    def __init__(
        self,
        name: str,
        parts: int,
        amount: int,
        unit: str = "samples",
        live: Callable[[], int] = lambda: 0,
        word: str = "parts",
    ) -> None:
        self.name, self.parts, self.amount, self.unit, self.live = name, parts, amount, unit, live
        self.word = word
        self.done = self.resumed = self.old = self.fresh = 0
        self.counts = Counts()
        self.begun = live()
        self.opened, self.started = time.monotonic(), None  # type: tuple[float, float | None]

    def add(self, counts: Counts, amount: int, parts: int, seconds: float | None) -> None:
        """A task is finished; `seconds` it took, none if that was in an earlier run."""
        self.counts += counts
        self.done += parts
        if seconds is None:
            self.resumed += parts
            self.old += amount
            return
        self.fresh += amount
        if self.started is None:
            self.started = time.monotonic() - seconds

    def line(self) -> str:
        """How far it is."""
        here, now = self.live(), time.monotonic()
        if not self.fresh + here:
            return f"{self._head}  waiting for the first {self.word[:-1]}  {outcome(self.counts)}"
        began = self.opened if self.started is None else self.started
        rate = max(self.fresh + here - self.begun, 0) / max(now - began, 1e-9)
        left = (self.amount - self.old - self.fresh - here) / rate if rate else None
        clock = "time left unknown" if left is None else f"{int(left) // 60}:{int(left) % 60:02d} left"
        return f"{self._head}  {self._rate(rate)}  {clock}  {outcome(self.counts)}"

    def last(self, note: str = "") -> str:
        """The line that stays."""
        resumed = f" ({self.resumed} from an earlier run)" if self.resumed else ""
        now = time.monotonic()
        worked = now - (self.started or now)
        rate = f"{self._rate(self.fresh / worked)}, " if self.fresh and worked > 0.05 else ""
        return f"{self._head}{resumed}  {outcome(self.counts)}  {rate}{now - self.opened:.1f} s{note}"

    @property
    def _head(self) -> str:
        return f"{self.name:<22} {self.done:,}/{self.parts:,} {self.word}"

    def _rate(self, rate: float) -> str:
        return f"{rate / 1e6:,.1f} MB/s" if self.unit == "bytes" else f"{rate:,.0f} samples/s"


class Screen:
    """Shows the steps at work; used as a context, so that the terminal is left as it was."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._steps: list[StepProgress] = []
        self._console = Console(file=self._stream, markup=False, highlight=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self._stream.isatty() else None
        self._printed = -_EVERY if self._live else time.monotonic()

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, step: StepProgress) -> None:
        self._steps.append(step)

    def end(self, step: StepProgress, note: str = "") -> None:
        """Print the line of a step that stays."""
        self._steps.remove(step)
        self.say(step.last(note))

    def say(self, text: str) -> None:
        """Print a line above those of the steps at work."""
        if self._live:
            self._console.print(Text(text), soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def tick(self, every: float = _EVERY) -> None:
        """Show how far the steps are, if it is time to."""
        if time.monotonic() - self._printed < (min(every, _BLINK) if self._live else every):
            return
        self._printed = time.monotonic()
        if self._live:
            self._live.update(Text("\n".join(step.line() for step in self._steps), overflow="ellipsis", no_wrap=True))
            self._live.refresh()
        else:
            for step in self._steps:
                self.say(step.line())


def outcome(counts: Counts) -> str:
    """The ledger in a few words."""
    parts = [f"{counts.rows_in:,} in", f"{counts.kept:,} kept"]
    for word, reasons in (("dropped", counts.dropped), ("rejected", counts.rejected)):
        if reasons:
            parts.append(f"{sum(reasons.values()):,} {word}")
    return ", ".join(parts)
