"""The samples of a step -> packs, and packs -> ranks. Pure: no files, no tensors, no randomness.

A step's samples are dealt into k = ceil(tokens / max_tokens) packs, the costliest first, always to the pack that is
cheapest so far (LPT on tokens * token_cost + tiles * tile_cost); one pack more is tried while any exceeds max_tokens.
For several ranks k is a multiple of their number, and the packs are dealt once more: equally many to each rank, so
that all ranks come to their collectives equally often; where samples are too few for that, a rank gets empty packs.

Nothing is padded, cut or left out: a sample longer than max_tokens is an error. *Which* samples make a step is said
elsewhere (draws.py) and depends neither on packing nor on the number of ranks.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

VERSION = 1

Packs = list[list[int]]
"""Sample indices, pack by pack."""


class PlanError(ValueError):
    """The samples can't be planned by these rules: one line."""


@dataclass(frozen=True)
class Packer:
    """`num_tokens` and `num_tiles`: [number of samples]. Costs are in any one unit (FLOPs)."""

    num_tokens: np.ndarray
    num_tiles: np.ndarray
    max_tokens: int
    token_cost: float
    tile_cost: float

    def __post_init__(self) -> None:
        if len(self.num_tokens) == 0:
            raise PlanError("the shards hold no sample; nothing can be trained from them")
        longest = int(self.num_tokens.argmax())
        if self.num_tokens[longest] > self.max_tokens:
            raise PlanError(
                f"data.max_tokens_per_pack: sample {longest} has {self.num_tokens[longest]} tokens, a pack takes at "
                f"most {self.max_tokens}; raise it to at least {self.num_tokens[longest]}"
            )

    def costs(self, samples: np.ndarray) -> np.ndarray:
        """What each of these samples costs."""
        tokens = self.num_tokens[samples].astype(np.int64)
        costs: np.ndarray = tokens * self.token_cost + self.num_tiles[samples] * self.tile_cost
        return costs

    def packs(self, samples: np.ndarray, ranks: int = 1) -> Packs:
        """The packs of a step; for several ranks a multiple of their number, unless samples are too few."""
        tokens, costs = self.num_tokens[samples].astype(np.int64), self.costs(samples)
        k = -(-int(tokens.sum()) // (self.max_tokens * ranks)) * ranks
        while True:
            packs = deal(costs, k)
            if all(tokens[pack].sum() <= self.max_tokens for pack in packs):
                return [samples[pack].tolist() for pack in packs]
            k += ranks  # ends at the latest with one sample a pack, which __post_init__ has shown to fit

    def ranks(self, samples: np.ndarray, ranks: int) -> list[Packs]:
        """The packs of a step by rank: equally many each, costs nearly equal; `[]` is an empty pack."""
        packs = self.packs(samples, ranks)
        costs = np.array([self.costs(np.array(pack)).sum() for pack in packs])
        each = -(-len(packs) // ranks)
        dealt = deal(costs, ranks, each)
        dealt += [[] for _ in range(ranks - len(dealt))]
        return [[packs[number] for number in numbers] + [[]] * (each - len(numbers)) for numbers in dealt]


def deal(costs: np.ndarray, k: int, most: int | None = None) -> list[list[int]]:
    """Positions 0..len(costs) dealt into at most k packs of nearly equal cost, each ascending, none empty; into one at
    most `most`."""
    packs: list[list[int]] = [[] for _ in range(k)]
    heap = [(0.0, number) for number in range(k)]
    for position in np.argsort(-costs, kind="stable").tolist():
        cost, number = heap[0]
        packs[number].append(position)
        if len(packs[number]) == most:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (cost + float(costs[position]), number))
    return [sorted(pack) for pack in packs if pack]
