"""The processes that train one model together: who is who, and how an error on one of them ends them all.

torchrun starts them and says in the environment who is who; without it there is one, and nothing here does anything.
They talk by gloo on the CPU and by nccl between GPUs; what this file sends is small and always goes over gloo.

A rank that fails alone leaves the others waiting in a collective for ever, or ends them with a page of somebody else's
traceback. So whatever can fail on one rank, such as reading a sample, is done in `agreed`: all learn of it before any
goes on, the rank that failed keeps its error, and the others leave by `Elsewhere`, without a word.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.distributed as dist

from schemas.strict import RecipeError

T = TypeVar("T")
_GONE = re.compile(r"gloo.*(closed by peer|reset by peer|Broken pipe)", re.DOTALL)


class Elsewhere(RuntimeError):
    """Another rank failed and says why."""


class LostRank(RuntimeError):
    """Another rank is gone without a word: one line."""


@dataclass(frozen=True)
class World:
    """One process among `count`. Every method is a collective: all call it, in the same order."""

    rank: int = 0
    count: int = 1
    group: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this one prints, logs, and holds the run's folder."""
        return self.rank == 0

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """What fails here on one rank fails on all, at this place; nothing in it may be a collective."""
        try:
            yield
        except Exception as error:
            known = isinstance(error, Elsewhere)
            if self._least(self.count if known else self.rank) == self.rank or known:
                raise
            raise Elsewhere from error
        if self._least(math.inf) < math.inf:
            raise Elsewhere

    def together(self, items: Iterable[T]) -> Iterator[T]:
        """The same, of each item of something that all ranks go through side by side."""
        left = iter(items)
        while True:
            with self.agreed():
                item = next(left, None)
            if item is None:
                return
            yield item

    def sum(self, value: float) -> float:
        """The sum over the ranks; the same bits on each."""
        return float(self._reduced(value, dist.ReduceOp.SUM))

    def told(self, value: T) -> T:
        """The first rank's value."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def gathered(self, value: T) -> list[T]:
        """The values of all ranks, in their order."""
        if self.count == 1:
            return [value]
        values: list[T | None] = [None] * self.count
        dist.all_gather_object(values, value, group=self.group)
        return values  # type: ignore[return-value]

    def beside(self) -> World:
        """The same ranks over a line of their own, for a thread that talks while this one does."""
        return replace(self, group=dist.new_group(backend="gloo")) if self.count > 1 else self

    def _least(self, value: float) -> float:
        return self._reduced(value, dist.ReduceOp.MIN)

    def _reduced(self, value: float, how: dist.ReduceOp.RedOpType) -> float:
        if self.count == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(tensor, how, group=self.group)
        return tensor.item()


ALONE = World()


@contextmanager
def joined() -> Iterator[World]:
    """The processes that torchrun started, or this one alone. Inside of itself it is the same world again."""
    if dist.is_initialized():
        yield World(dist.get_rank(), dist.get_world_size())
        return
    cuda = torch.cuda.is_available()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 and not cuda:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    if count == 1:  # one GPU has its mixed precision from FSDP, which wants a group of one
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    else:
        dist.init_process_group(backend)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or _GONE.search(str(error)):
            raise LostRank(f"another rank ended ({' '.join(str(error).split())[:200]})") from error
        raise
    dist.destroy_process_group()  # not after an error: it may wait for those that are gone


def device(wanted: str) -> torch.device:
    """Where to compute: `auto` is this process's GPU if there are any; it is then torch's own choice, too.

    Raises RecipeError where there are none, or fewer than processes here.
    """
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise RecipeError("run.device: cuda, and there is no GPU that torch can use; set it to cpu or auto")
    if not there or wanted == "cpu":
        return torch.device("cpu")
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    here, count = max(rank + 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))), torch.cuda.device_count()
    if here > count:
        raise RecipeError(
            f"run.device: {wanted}, and this machine has {here} processes and GPUs for {count}; start {count} by "
            "--nproc-per-node or set it to cpu"
        )
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def speaker() -> str:
    """What an error begins with: the rank, where there are several."""
    return f"rank {os.environ['RANK']}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
