"""What a person sees while a step runs: stage, parts, samples/s (or MB/s), time left, what was dropped so far.

On a terminal one line is rewritten every second; elsewhere (a log file, a Ray job) a line is printed every ten seconds.
Every step ends with one line that stays.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO

from schemas.manifest import Counts


class Progress:
    """Counts finished parts of one step and prints. `live`: how much of unfinished parts is there already."""

    def __init__(
        self,
        name: str,
        parts: int,
        amount: int,
        resumed: int = 0,
        stream: TextIO | None = None,
        unit: Literal["samples", "bytes"] = "samples",
        live: Callable[[], int] = lambda: 0,
    ) -> None:
        self.name, self.parts, self.amount, self.unit, self.live = name, parts, amount, unit, live
        self.stream = stream or sys.stdout
        self.every = 1.0 if self.stream.isatty() else 10.0
        self.done, self.resumed = resumed, resumed
        self.counts, self.old, self.fresh = Counts(), 0, 0
        self.begun = live()
        self.started = self.printed = time.monotonic()

    def add(self, counts: Counts, amount: int, resumed: bool = False, parts: int = 1) -> None:
        """A task is finished, in this run or (resumed) in an earlier one; of a download it may be several parts."""
        self.counts += counts
        if resumed:
            self.old += amount
        else:
            self.done += parts
            self.fresh += amount

    def tick(self) -> None:
        """Print if it is time to."""
        now = time.monotonic()
        if now - self.printed >= self.every:
            self.printed = now
            self._print(self._line(now), end="\r" if self.stream.isatty() else "\n")

    def close(self, note: str = "") -> None:
        """The line that stays."""
        resumed = f" ({self.resumed} from an earlier run)" if self.resumed else ""
        seconds = time.monotonic() - self.started
        rate = f"{self._rate(self.fresh / seconds)}, " if self.fresh and seconds > 0.05 else ""
        done = f"{self.name:<22} {self.done}/{self.parts} {self._parts}{resumed}"
        self._print(f"{done}  {_outcome(self.counts)}  {rate}{seconds:.1f} s{note}")

    def _line(self, now: float) -> str:
        here = self.live()
        done = f"{self.name:<22} {self.done}/{self.parts} {self._parts}"
        if not self.fresh + here:
            return f"{done}  waiting for the first {self._parts[:-1]}  {_outcome(self.counts)}"
        rate = max(self.fresh + here - self.begun, 0) / max(now - self.started, 1e-9)
        left = (self.amount - self.old - self.fresh - here) / rate if rate else None
        clock = "time left unknown" if left is None else f"{int(left) // 60}:{int(left) % 60:02d} left"
        return (
            f"{self.name:<22} {self.done}/{self.parts} {self._parts}  {self._rate(rate)}  {clock}  "
            f"{_outcome(self.counts)}"
        )

    @property
    def _parts(self) -> str:
        return "files" if self.unit == "bytes" else "parts"

    def _rate(self, rate: float) -> str:
        return f"{rate / 1e6:,.1f} MB/s" if self.unit == "bytes" else f"{rate:,.0f} samples/s"

    def _print(self, text: str, end: str = "\n") -> None:
        clear = "\x1b[2K" if self.stream.isatty() else ""
        print(f"{clear}{text}", end=end, file=self.stream, flush=True)


def _outcome(counts: Counts) -> str:
    parts = [f"{counts.rows_in:,} in", f"{counts.kept:,} kept"]
    for word, reasons in (("dropped", counts.dropped), ("rejected", counts.rejected)):
        if reasons:
            parts.append(f"{sum(reasons.values()):,} {word}")
    return ", ".join(parts)
