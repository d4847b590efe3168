"""The samples with the highest and the lowest loss of each window of steps: wrong labels, and leaks.

A loss far above the others is often a wrong label or a broken picture; one far below, early on, a sample that is there
many times. A window ends after `run.log_every` steps and at every checkpoint, so that a resumed run begins a new one
and writes the same lines as a run that nothing stopped. Samples without a target have no loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from train.metrics import Told

SAMPLES = "samples.jsonl"
_EACH = 5


@dataclass(frozen=True)
class Seen:
    """A sample in a step; `loss` is its mean over its targets."""

    sample_id: str
    source: str
    step: int
    targets: int
    loss: float


@dataclass(frozen=True)
class Window:
    """The steps from `first` to `step`."""

    first: int
    step: int
    highest: tuple[Seen, ...]
    lowest: tuple[Seen, ...]


class Windows:
    """The window that is open, and when it ends."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._first = 0
        self._seen: list[Seen] = []

    def add(self, step: int, of: Sequence[Told]) -> Window | None:
        """A step's samples; the window that ends with it."""
        self._first = self._first or step
        with_targets = [each for each in of if each.sample.targets]
        self._seen += [Seen(s.sample_id, s.source, step, s.targets, t.mean) for t in with_targets for s in (t.sample,)]
        self._seen = _extremes(self._seen)
        self._last = step
        return self.end() if step % self._every == 0 else None

    def end(self) -> Window | None:
        """The window as far as it has come, which ends here; None if it has no step."""
        if not self._first:
            return None
        seen = sorted(self._seen, key=_by_loss)
        window = Window(self._first, self._last, tuple(seen[::-1][:_EACH]), tuple(seen[:_EACH]))
        self._first, self._seen = 0, []
        return window


def _extremes(seen: list[Seen]) -> list[Seen]:
    """Those that can still be among the highest or lowest of a window."""
    found = sorted(seen, key=_by_loss)
    return found if len(found) <= 2 * _EACH else found[:_EACH] + found[-_EACH:]


def _by_loss(seen: Seen) -> tuple[float, str, int]:
    return seen.loss, seen.sample_id, seen.step
