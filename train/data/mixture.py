"""What a mixture asks for -> each source's share at every step, and the most draws of it in the run. Pure numbers.

weights  shares of the unit (samples, tokens or target tokens). A run of `epochs` then has as many samples (or
         tokens, by the batch's unit) as so many passes over everything; small sources repeat, large ones don't end
repeats  passes over each source in an epoch, one where none is named: shares are what that comes to
caps     the most passes over a source in the whole run. What a source would have above goes to the others, from the
         first step on, so that shares stay the same from beginning to end
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas import strict
from train.config import Mixture
from train.data.index import Labels
from train.data.packing import PlanError

_ENDLESS = 2**62


@dataclass(frozen=True)
class Amounts:
    """Of each source, per pass: samples, units of the weights, units of the batch."""

    names: tuple[str, ...]
    samples: np.ndarray
    weighed: np.ndarray
    batched: np.ndarray


@dataclass(frozen=True)
class Shares:
    """[sources]: `weights` sum to one, and are 0 for a source that is left out; `limits` are draws in the whole run.
    `batched`: units of the batch in the run; None: until every limit is reached."""

    weights: np.ndarray
    limits: np.ndarray
    batched: int | None


def shares(mixture: Mixture, of: Amounts, epochs: int | None, batched: int | None) -> Shares:
    """For a run of so many epochs, or of so many units of the batch. Raises PlanError."""
    _known(mixture, of.names)
    caps = np.array([_cap(mixture, name) for name in of.names])
    limits = np.minimum(np.floor(caps * of.samples), _ENDLESS).astype(np.int64)
    if mixture.weights is not None:
        asked = wanted = np.array([_weight(mixture.weights, name, mixture.by) for name in of.names], float)
        if batched is None:
            batched = (epochs or 0) * int(of.batched[wanted > 0].sum())
    else:
        asked = repeats = np.array([(mixture.repeats or {}).get(name, 1.0) for name in of.names], float)
        wanted = repeats * of.weighed
        if epochs is not None:
            limits = np.minimum(limits, np.rint(repeats * of.samples * epochs).astype(np.int64))
            wanted = limits / of.samples * of.weighed
    _refuse_nothing(mixture, of, asked)
    if batched is not None:
        wanted = _filled(of, wanted / wanted.sum(), limits / of.samples, batched)
    return Shares(wanted / wanted.sum(), np.where(wanted > 0, limits, 0), batched)


def _filled(of: Amounts, wanted: np.ndarray, passes: np.ndarray, batched: int) -> np.ndarray:
    """Units of each source in the run: as wanted, except for those that reach their most passes and stay there."""
    full = np.zeros(len(wanted), bool)
    while True:
        there = float((of.batched * passes)[full].sum())
        free = ~full & (wanted > 0)
        each = wanted * of.batched / np.maximum(of.weighed, 1)
        if not free.any():
            if round(there) < batched:
                raise PlanError(
                    f"data.mixture.caps: the run draws {batched:,} of the batch's unit, the caps allow {there:,.0f}; "
                    "raise them, or train for less"
                )
            return np.where(wanted > 0, of.weighed * passes, 0.0)
        run = np.where(free, wanted * (batched - there) / each[free].sum(), 0.0)
        over = free & (run > of.weighed * passes)
        if not over.any():
            return np.where(full, of.weighed * passes, run)
        full |= over


def _cap(mixture: Mixture, name: str) -> float:
    caps = mixture.caps
    if caps is None:
        return float(_ENDLESS)
    return float(caps.get(name, _ENDLESS) if isinstance(caps, Mapping) else caps)


def _weight(weights: Mapping[str, float], name: str, by: str) -> float:
    if name not in weights:
        raise PlanError(f"data.mixture.weights: the {by} {name!r} of the shards has none; name it, with 0 to leave it")
    return weights[name]


def _known(mixture: Mixture, names: tuple[str, ...]) -> None:
    named: dict[str, Any] = {"weights": mixture.weights, "repeats": mixture.repeats, "caps": mixture.caps}
    for key, table in named.items():
        for name in table if isinstance(table, Mapping) else ():
            if name not in names:
                raise PlanError(strict.unknown(f"data.mixture.{key}", name, names))


def _refuse_nothing(mixture: Mixture, of: Amounts, asked: np.ndarray) -> None:
    if not (asked > 0).any():
        raise PlanError("data.mixture: every source is left out; give one a weight above 0")
    for name in (name for name, units, ask in zip(of.names, of.weighed, asked, strict=True) if ask > 0 and not units):
        raise PlanError(f"data.mixture: {name!r} has no {mixture.unit}, so no share of them; weigh by another unit")


def labels(by: str, source: Labels, subset: Labels) -> Labels:
    """Samples by what a mixture tells apart; a subset is `source/subset`."""
    if by == "source":
        return source
    pairs = source.codes.astype(np.int64) * len(subset.names) + subset.codes
    found, codes = np.unique(pairs, return_inverse=True)
    names = [f"{source.names[pair // len(subset.names)]}/{subset.names[pair % len(subset.names)]}" for pair in found]
    return Labels(tuple(names), codes.astype(np.int32))
