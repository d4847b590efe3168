"""What a plan comes to: samples, tokens, targets, tiles and passes by source, and how full and even its packs are.

Counted and not estimated: every step is drawn. Packs are made for some steps only, evenly spread, for they take longer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.data.draws import Shuffled
from train.data.folders import AnyShards
from train.data.plan import Plan

_STEPS = 64  # whose packs are looked at
RANKS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Amounts:
    """Of the run, [sources]; `squares` are the sums of the squares of the samples' tokens."""

    samples: np.ndarray
    tokens: np.ndarray
    targets: np.ndarray
    tiles: np.ndarray
    squares: np.ndarray


@dataclass(frozen=True)
class Packing:
    """Of the steps looked at: packs per step, tokens / most tokens of a pack, most tiles in one, and by number of ranks
    the costs of the rank with most / the mean, as mean over steps."""

    steps: int
    packs: float
    fill: float
    most_tiles: int
    imbalance: dict[int, float]


def amounts(plan: Plan, shards: AnyShards) -> Amounts:
    return _amounts(plan, shards, draws(plan)[0])


def both(plan: Plan, shards: AnyShards) -> tuple[Amounts, Packing]:
    drawn, some = draws(plan, _STEPS)
    return _amounts(plan, shards, drawn), _packing(plan, some)


def draws(plan: Plan, looked_at: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """How often each sample is drawn in the run: [samples]; and so many steps of the first epoch."""
    count, epoch = len(plan.packer.num_tokens), min(plan.total, plan.draws.steps_per_epoch)
    wanted = set(np.linspace(0, epoch - 1, min(looked_at, epoch)).astype(int).tolist())
    whole = isinstance(plan.draws, Shuffled) and plan.draws.epochs
    drawn, found = np.full(count, whole or 0, np.int64), []
    last = max(wanted, default=-1)
    for number, samples in enumerate(plan.draws.steps(0)):
        if whole and number > last:
            break
        if not whole:
            np.add.at(drawn, samples, 1)
        if number in wanted:
            found.append(samples)
    return drawn, found


def _amounts(plan: Plan, shards: AnyShards, drawn: np.ndarray) -> Amounts:
    columns = [shards.num_tokens, shards.num_target_tokens, shards.num_tiles]
    weights = [None, *columns, np.square(shards.num_tokens, dtype=np.int64)]
    return Amounts(*(_by_source(plan, drawn, column) for column in weights))


def _by_source(plan: Plan, drawn: np.ndarray, column: np.ndarray | None) -> np.ndarray:
    names, codes = plan.labels
    weights = drawn if column is None else drawn * column
    return np.bincount(codes, weights, minlength=len(names))


def _packing(plan: Plan, found: list[np.ndarray]) -> Packing:
    packs = [plan.packer.packs(samples) for samples in found]
    flat = [np.array(pack) for step in packs for pack in step]
    tokens = [int(plan.packer.num_tokens[pack].sum()) for pack in flat]
    tiles = [int(plan.packer.num_tiles[pack].sum()) for pack in flat]
    return Packing(
        len(found),
        len(flat) / len(found),
        sum(tokens) / (len(tokens) * plan.packer.max_tokens),
        max(tiles),
        {ranks: float(np.mean([_imbalance(plan, samples, ranks) for samples in found])) for ranks in RANKS},
    )


def _imbalance(plan: Plan, samples: np.ndarray, ranks: int) -> float:
    """One rank: of its packs; several: of the ranks."""
    dealt = plan.packer.ranks(samples, ranks)
    groups = [[pack] for pack in dealt[0]] if ranks == 1 else dealt
    costs = [sum(plan.packer.costs(np.array(pack)).sum() for pack in group if pack) for group in groups]
    return float(max(costs) / np.mean(costs))
