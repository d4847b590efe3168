"""What a person sees while a step runs: stage, parts, samples/s, time left, what was dropped so far.

On a terminal one line is rewritten every second; elsewhere (a log file, a Ray job) a line is printed every ten seconds.
Every step ends with one line that stays.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

from schemas.manifest import Counts


class Progress:
    """Counts finished parts of one step and prints."""

    def __init__(self, name: str, parts: int, rows: int, resumed: int = 0, stream: TextIO | None = None) -> None:
        self.name, self.parts, self.rows = name, parts, rows
        self.stream = stream or sys.stdout
        self.every = 1.0 if self.stream.isatty() else 10.0
        self.done, self.resumed = resumed, resumed
        self.counts, self.fresh_rows = Counts(), 0
        self.started = self.printed = time.monotonic()

    def add(self, counts: Counts, resumed: bool = False) -> None:
        """A part is finished, in this run or (resumed) in an earlier one."""
        self.counts += counts
        if not resumed:
            self.done += 1
            self.fresh_rows += counts.rows_in

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
        rate = f"{self.fresh_rows / seconds:,.0f} samples/s, " if self.fresh_rows and seconds > 0.05 else ""
        done = f"{self.name:<22} {self.done}/{self.parts} parts{resumed}"
        self._print(f"{done}  {_outcome(self.counts)}  {rate}{seconds:.1f} s{note}")

    def _line(self, now: float) -> str:
        done = f"{self.name:<22} {self.done}/{self.parts} parts"
        if not self.fresh_rows:
            return f"{done}  waiting for the first part  {_outcome(self.counts)}"
        rate = self.fresh_rows / max(now - self.started, 1e-9)
        left = round((self.rows - self.counts.rows_in) / rate)
        return f"{done}  {rate:,.0f} samples/s  {left // 60}:{left % 60:02d} left  {_outcome(self.counts)}"

    def _print(self, text: str, end: str = "\n") -> None:
        clear = "\x1b[2K" if self.stream.isatty() else ""
        print(f"{clear}{text}", end=end, file=self.stream, flush=True)


def _outcome(counts: Counts) -> str:
    parts = [f"{counts.rows_in:,} in", f"{counts.kept:,} kept"]
    for word, reasons in (("dropped", counts.dropped), ("rejected", counts.rejected)):
        if reasons:
            parts.append(f"{sum(reasons.values()):,} {word}")
    return ", ".join(parts)
