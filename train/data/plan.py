"""Lengths, seed and rules -> the steps of a run, each split into packs. Pure: no files, no tensors, no global RNG.

1. Each step's exact samples: draws.py for epochs over everything, mixed.py for mixtures and schedules.
2. Those samples split into packs, and for several ranks the packs dealt to them: packing.py.

State is (plan, epoch, step), where a mixture is one long epoch. Any step gives the same samples again, whatever the
number of ranks; the same packs for the same number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from schemas.identity import fingerprint
from train.config import DataConfig, Mixture
from train.data import mixture, packing
from train.data.draws import Batch, Draws, Shuffled
from train.data.folders import AnyShards
from train.data.index import Labels
from train.data.mixed import Mixed, Stretch
from train.data.mixture import Amounts
from train.data.packing import Packer, Packs
from train.data.streams import Sizes

_CHUNK = 1 << 20


class Position(NamedTuple):
    """The next step to do: epoch, and step within it."""

    epoch: int
    step: int


@dataclass(frozen=True)
class Plan:
    """`labels`: what tells the samples apart, for reports."""

    packer: Packer
    draws: Draws
    labels: Labels

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.draws.total

    def steps(self, start: int = 0) -> Iterator[Packs]:
        """Step `start` and every later one; each is a list of packs, each pack a list of sample indices."""
        return (self.packer.packs(samples) for samples in self.draws.steps(start))

    def dealt(self, ranks: int, start: int = 0) -> Iterator[list[Packs]]:
        """The same by rank: equally many packs each, `[]` where there is none."""
        return (self.packer.ranks(samples, ranks) for samples in self.draws.steps(start))

    def position(self, step: int) -> Position:
        return Position(*divmod(step, self.draws.steps_per_epoch))

    def step(self, at: Position) -> int:
        return at.epoch * self.draws.steps_per_epoch + at.step

    def identity(self) -> dict[str, Any]:
        """What makes one plan another, by name: a checkpoint is refused by the first that differs."""
        rules = {"max_tokens": self.packer.max_tokens} | {
            f"{name}_cost": float(getattr(self.packer, f"{name}_cost")) for name in ("token", "tile")
        }
        return {"version": packing.VERSION, "samples": self._samples(), **self.draws.identity(), **rules}

    def fingerprint(self) -> str:
        return fingerprint(self.identity())

    def _samples(self) -> str:
        """Of everything that is known of each sample, however it is held in memory."""
        columns = [self.packer.num_tokens, self.packer.num_tiles]
        if isinstance(self.draws, Mixed):
            columns += [self.labels.codes, *(s for s in (self.draws.weighed, self.draws.batched) if s is not None)]
        digest = hashlib.sha256()
        for column in columns:
            for first in range(0, len(column), _CHUNK):
                digest.update(column[first : first + _CHUNK].astype("<i8").tobytes())
        return digest.hexdigest()


def make(data: DataConfig, shards: AnyShards, token_cost: float, tile_cost: float) -> Plan:
    """The plan of a run. Raises PlanError."""
    packer = Packer(shards.num_tokens, shards.num_tiles, data.max_tokens_per_pack, token_cost, tile_cost)
    if data.batch_size is not None:
        batch = Batch(data.batch_size, "samples")
    else:
        batch = Batch(data.batch_tokens or 0, "tokens")
    if not (data.mixture or data.schedule):
        shuffled = Shuffled(
            shards.num_tokens, shards.num_tiles, data.seed, batch, data.epochs, data.steps, data.group_by
        )
        return Plan(packer, shuffled, shards.source)
    of = data.mixture or Mixture()
    labels = mixture.labels(of.by, shards.source, shards.subset)
    return Plan(packer, _mixed(data, of, shards, labels, batch), labels)


def _mixed(data: DataConfig, of: Mixture, shards: AnyShards, labels: Labels, batch: Batch) -> Mixed:
    batch.check(shards.num_tokens)
    units: dict[str, Sizes] = {"samples": None, "tokens": shards.num_tokens, "targets": shards.num_target_tokens}
    weighed, batched = units[of.unit], units[batch.unit]
    amounts = Amounts(labels.names, *(_per_source(labels, size) for size in (None, weighed, batched)))
    steps = data.steps or sum(phase.steps for phase in data.schedule) or None
    shares = mixture.shares(of, amounts, data.epochs, steps and steps * batch.size)
    if steps is None and shares.batched is not None:
        steps = -(-shares.batched // batch.size)
    stretches = tuple(Stretch(phase.steps, phase.batches) for phase in data.schedule) or (Stretch(steps, "mixed"),)
    return Mixed(labels, shares, weighed, batched, batch, data.seed, stretches)


def _per_source(labels: Labels, size: Sizes) -> np.ndarray:
    return np.bincount(labels.codes, size, minlength=len(labels.names)).astype(np.int64)
