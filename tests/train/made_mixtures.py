"""Mixtures of made-up samples, without shards: sources of random sizes, or given ones."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from train.config import DataConfig, Mixture, Phase
from train.data import plan
from train.data.index import Labels
from train.data.plan import Plan


def corpus(lengths: Sequence[int], seed: int = 0, longest: int = 60) -> Any:
    """What a plan reads of shards: so many samples of sources a, b, c, ..., of up to `longest` tokens."""
    random, count = np.random.default_rng(seed), sum(lengths)
    tokens = random.integers(1, longest + 1, count).astype(np.int32)
    tokens[random.integers(count)] = longest
    codes = random.permutation(np.repeat(np.arange(len(lengths)), lengths)).astype(np.int32)
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: len(lengths)])
    return SimpleNamespace(
        num_tokens=tokens,
        num_target_tokens=np.maximum(1, tokens // random.integers(1, 9, count)).astype(np.int32),
        num_tiles=random.integers(0, 4, count).astype(np.int32),
        source=Labels(names, codes),
        subset=Labels(("x", "y"), (np.arange(count) % 2).astype(np.int32)),
    )


def planned(
    of: Any, seed: int = 0, schedule: Sequence[tuple[int, str]] = (), plain: bool = False, **changes: Any
) -> Plan:
    """Its plan by keys of `data`; those of a mixture are prefixed: mixture_weights. `plain`: without a mixture."""
    mixed = {name.removeprefix("mixture_"): value for name, value in changes.items() if name.startswith("mixture_")}
    rest = {name: value for name, value in changes.items() if not name.startswith("mixture_")}
    phases = tuple(Phase(steps, kind) for steps, kind in schedule)  # type: ignore[arg-type]
    asked = None if plain else Mixture(**mixed)
    data = DataConfig("x", seed, **{"max_tokens_per_pack": 200, "mixture": asked, "schedule": phases, **rest})
    return plan.make(data, of, token_cost=2.0, tile_cost=30.0)


def by_source(of: Plan, values: np.ndarray) -> np.ndarray:
    """[steps, sources]: the sums of the values of each step's samples."""
    sums = [np.bincount(of.labels.codes[x], values[x], len(of.labels.names)) for x in of.draws.steps(0)]
    return np.array(sums)
