"""Lengths, seed and epoch -> the steps of an epoch, each split into packs. Pure: no files, no tensors, no global RNG.

1. The order of an epoch is a permutation of all samples keyed by (seed, epoch): sort the samples by the 64-bit words
   of a Philox generator whose key is a sha256. The words are the generator's definition, so the order is the same on
   every machine and with every version of numpy.
2. A step is the next `batch_size` samples of that order (the last step of an epoch takes what is left). *Which*
   samples make a step never depends on packing or on the number of processes.
3. A step's samples are dealt into k = ceil(tokens / max_tokens) packs, the costliest first, always to the pack that
   is cheapest so far (LPT on tokens * token_cost + tiles * tile_cost); one pack more is tried while any exceeds
   max_tokens.

Nothing is padded, cut or left out: a sample longer than max_tokens is an error. State is (plan, epoch, step).
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from schemas.identity import fingerprint

VERSION = 1


class PlanError(ValueError):
    """The samples can't be planned by these rules: one line."""


@dataclass(frozen=True)
class Rules:
    """What bears on the order and the packs besides the samples themselves. Costs are in any one unit (FLOPs)."""

    seed: int
    batch_size: int
    max_tokens: int
    token_cost: float
    tile_cost: float


@dataclass(frozen=True)
class Plan:
    """Arrays of one entry per sample: [number of samples]."""

    num_tokens: np.ndarray
    num_tiles: np.ndarray
    rules: Rules

    def __post_init__(self) -> None:
        if len(self.num_tokens) == 0:
            raise PlanError("the shards hold no sample; nothing can be trained from them")
        longest = int(self.num_tokens.argmax())
        if self.num_tokens[longest] > self.rules.max_tokens:
            raise PlanError(
                f"data.max_tokens_per_pack: sample {longest} has {self.num_tokens[longest]} tokens, a pack takes at "
                f"most {self.rules.max_tokens}; raise it to at least {self.num_tokens[longest]}"
            )

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.num_tokens) // self.rules.batch_size)

    def identity(self) -> str:
        lengths = hashlib.sha256(np.stack([self.num_tokens, self.num_tiles]).astype("<i8").tobytes()).hexdigest()
        return fingerprint([VERSION, lengths, self.rules])

    def steps(self, epoch: int, start: int = 0) -> Iterator[list[list[int]]]:
        """The steps of an epoch from step `start` on; each is a list of packs, each pack a list of sample indices."""
        order = epoch_order(len(self.num_tokens), self.rules.seed, epoch)
        for step in range(start, self.steps_per_epoch):
            first = step * self.rules.batch_size
            yield self.packs(order[first : first + self.rules.batch_size])

    def packs(self, samples: np.ndarray) -> list[list[int]]:
        tokens = self.num_tokens[samples].astype(np.int64)
        costs = tokens * self.rules.token_cost + self.num_tiles[samples] * self.rules.tile_cost
        k = -(-int(tokens.sum()) // self.rules.max_tokens)
        while True:
            packs = deal(costs, k)
            if all(tokens[pack].sum() <= self.rules.max_tokens for pack in packs):
                return [samples[pack].tolist() for pack in packs]
            k += 1  # ends at the latest with one sample a pack, which __post_init__ has shown to fit


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of range(count)."""
    key = hashlib.sha256(f"tessera order {seed} {epoch}".encode()).digest()[:16]
    words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count)
    return np.argsort(words, kind="stable")


def deal(costs: np.ndarray, k: int) -> list[list[int]]:
    """Positions 0..len(costs) dealt into at most k packs of nearly equal cost, each ascending, none empty."""
    packs: list[list[int]] = [[] for _ in range(k)]
    heap = [(0.0, number) for number in range(k)]
    for position in np.argsort(-costs, kind="stable").tolist():
        cost, number = heap[0]
        packs[number].append(position)
        heapq.heapreplace(heap, (cost + float(costs[position]), number))
    return [sorted(pack) for pack in packs if pack]
