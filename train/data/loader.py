"""Plan and position -> steps of packs, one step prepared ahead by a thread.

Of several ranks each reads and decodes its own packs and no others; what the whole step holds it knows from the index.
A rank that has fewer packs than the others computes empty ones beside them: one token that nothing is learnt from.

What goes to a GPU is put into pinned memory by that thread, so that the copy runs beside the computation and the loop
does not wait for it. Tiles travel as the bytes they are and become numbers on the device.

State is (plan, epoch, step): nothing is buffered that a new start would have to restore. Image decoding releases the
GIL, so one thread hides it behind the forward and backward passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from train.data.collate import CollateError, Pack, collate
from train.data.folders import AnyShards
from train.data.packing import Packs
from train.data.plan import Plan, Position
from train.data.shards import Facts, Sample

P = TypeVar("P")


class Counts(NamedTuple):
    """What a step holds, over all ranks."""

    samples: int
    tokens: int
    targets: int
    tiles: int
    packs: int


class Step(NamedTuple):
    """One optimiser step: this rank's packs of it, what it holds, and the position after it."""

    packs: list[Pack]
    counts: Counts
    after: Position


def steps(
    shards: AnyShards, plan: Plan, start: Position, rank: int = 0, ranks: int = 1, pin: bool = False
) -> Iterator[Step]:
    """All steps from `start` to the end of the run; `pin`: in memory that a GPU copies from by itself."""
    waiting: deque[Future[Step]] = deque()
    first = plan.step(start)
    with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
        for number, dealt in enumerate(plan.dealt(ranks, first), start=first + 1):
            waiting.append(pool.submit(_load, shards, dealt, rank, plan.position(number), pin))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _load(shards: AnyShards, dealt: Sequence[Packs], rank: int, after: Position, pin: bool) -> Step:
    packs = [_pack(shards, samples) for samples in dealt[rank]]
    if pin:
        packs = [each_tensor(pack, torch.Tensor.pin_memory) for pack in packs]
    return Step(packs, _counts(shards, list(chain.from_iterable(dealt))), after)


def _pack(shards: AnyShards, numbers: list[int]) -> Pack:
    if not numbers:
        return empty(shards.facts)
    samples = [shards.sample(number) for number in numbers]
    pack, told = collate(samples, shards.facts), int(shards.num_target_tokens[numbers].sum())
    if pack.num_targets != told:
        raise CollateError(
            f"{', '.join(sample.sample_id for sample in samples)}: {pack.num_targets} target tokens, the index says "
            f"{told}; run pretokenise again"
        )
    return pack


def empty(facts: Facts) -> Pack:
    """One token of text without a target: a loss of 0, and gradients of 0 for all that text passes."""
    none = np.empty((0, 2), np.int64)
    token = next(token for token in (0, 1) if token != facts.image_token_id)
    return collate([Sample("", np.array([token]), none, none, (), ())], facts)


def _counts(shards: AnyShards, packs: Packs) -> Counts:
    samples = np.array(list(chain.from_iterable(packs)))
    tokens, targets, tiles = (
        int(size[samples].sum()) for size in (shards.num_tokens, shards.num_target_tokens, shards.num_tiles)
    )
    return Counts(len(samples), tokens, targets, tiles, sum(map(bool, packs)))


def on(pack: P, device: torch.device) -> P:
    """The pack with its tensors on a device."""
    return pack if device.type == "cpu" else each_tensor(pack, lambda tensor: tensor.to(device, non_blocking=True))


def each_tensor(pack: P, change: Callable[[torch.Tensor], torch.Tensor]) -> P:
    """The pack with another tensor for each of its own."""

    def changed(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return change(value)
        return each_tensor(value, change) if is_dataclass(value) else value

    given: Any = pack
    made: P = replace(given, **{field.name: changed(getattr(pack, field.name)) for field in fields(given)})
    return made
