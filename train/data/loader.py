"""Plan and position -> steps of packs, one step prepared ahead by a thread.

State is (plan, epoch, step): nothing is buffered that a new start would have to restore. Image decoding releases the
GIL, so one thread hides it behind the forward and backward passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from train.data.collate import Pack, collate
from train.data.packing import Plan
from train.data.shards import Shards


class Position(NamedTuple):
    """The next step to do: epoch, and step within it."""

    epoch: int
    step: int


class Step(NamedTuple):
    """One optimiser step: its packs, and the position after it."""

    packs: list[Pack]
    num_samples: int
    after: Position


def steps(shards: Shards, plan: Plan, epochs: int, start: Position) -> Iterator[Step]:
    """All steps from `start` to the end of the last epoch."""
    waiting: deque[Future[Step]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
        for packs, after in _schedule(plan, epochs, start):
            waiting.append(pool.submit(_load, shards, packs, after))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _schedule(plan: Plan, epochs: int, start: Position) -> Iterator[tuple[list[list[int]], Position]]:
    for epoch in range(start.epoch, epochs):
        first = start.step if epoch == start.epoch else 0
        for step, packs in enumerate(plan.steps(epoch, first), start=first):
            last = step + 1 == plan.steps_per_epoch
            yield packs, Position(epoch + 1, 0) if last else Position(epoch, step + 1)


def _load(shards: Shards, packs: list[list[int]], after: Position) -> Step:
    loaded = [collate([shards.sample(index) for index in pack], shards.facts) for pack in packs]
    return Step(loaded, sum(map(len, packs)), after)
