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
from train.data.folders import AnyShards
from train.data.packing import Packs
from train.data.plan import Plan, Position


class Step(NamedTuple):
    """One optimiser step: its packs, and the position after it."""

    packs: list[Pack]
    num_samples: int
    after: Position


def steps(shards: AnyShards, plan: Plan, start: Position) -> Iterator[Step]:
    """All steps from `start` to the end of the run."""
    waiting: deque[Future[Step]] = deque()
    first = plan.step(start)
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
        for number, packs in enumerate(plan.steps(first), start=first + 1):
            waiting.append(pool.submit(_load, shards, packs, plan.position(number)))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _load(shards: AnyShards, packs: Packs, after: Position) -> Step:
    loaded = [collate([shards.sample(index) for index in pack], shards.facts) for pack in packs]
    return Step(loaded, sum(map(len, packs)), after)
