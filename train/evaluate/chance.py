"""How far a score may be off by chance: of one run an interval, of two runs on the same questions a test.

Scores of 0 and 1: Wilson's interval and the exact McNemar test. Graded ones: the percentiles of a bootstrap over
questions, and a sign-flip permutation test of the differences, exact while there are few of them. Draws have a fixed
seed, so the same scores give the same numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

LEVEL = 0.95
_Z = 1.959963984540054  # of LEVEL, two-sided
_DRAWS, _SEED = 10_000, 12
_EXACT = 12  # differences at most whose signs are all tried
_FLIPS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Interval:
    low: float
    high: float
    method: Literal["wilson", "bootstrap"]
    level: float = LEVEL


@dataclass(frozen=True)
class Paired:
    """Of two runs: `better` and `worse` count the questions that the second one answers better and worse."""

    difference: float
    low: float
    high: float
    p: float
    better: int
    worse: int
    test: Literal["mcnemar", "sign flips"]


def interval(scores: Sequence[float], graded: bool) -> Interval | None:
    """Of the mean; None where there is nothing."""
    if not scores:
        return None
    if graded:
        return Interval(*_bootstrap(scores), "bootstrap")
    return Interval(*wilson(sum(scores), len(scores)), "wilson")


def wilson(right: float, count: int) -> tuple[float, float]:
    """Wilson 1927: the shares from which `right` of `count` is not too far off."""
    share, grown = right / count, 1 + _Z**2 / count
    middle = share + _Z**2 / (2 * count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return max(0.0, min(share, (middle - half) / grown)), min(1.0, max(share, (middle + half) / grown))


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Percentiles of the mean of as many values drawn again; equal values are drawn together."""
    counted = sorted(Counter(values).items())
    distinct = np.array([value for value, _ in counted])
    shares = np.array([count for _, count in counted]) / len(values)
    drawn = np.random.default_rng(_SEED).multinomial(len(values), shares, _draws(len(counted)))
    means = drawn @ distinct / len(values)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _draws(width: int) -> int:
    return max(1000, min(_DRAWS, _FLIPS_AT_ONCE // width))


def paired(first: Sequence[float], second: Sequence[float], graded: bool) -> Paired:
    """The second run against the first, question by question."""
    differences = [after - before for before, after in zip(first, second, strict=True)]
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    p = sign_flips([d for d in differences if d]) if graded else mcnemar(better, worse)
    low, high = _bootstrap(differences) if differences else (0.0, 0.0)
    mean = math.fsum(differences) / len(differences) if differences else 0.0
    return Paired(mean, low, high, p, better, worse, "sign flips" if graded else "mcnemar")


def mcnemar(better: int, worse: int) -> float:
    """The exact two-sided p: as uneven a split of the changed questions, or more, if each went either way alike."""
    changed, fewer = better + worse, min(better, worse)
    ways, tail = 1, 0
    for count in range(fewer + 1):
        tail += ways
        ways = ways * (changed - count) // (count + 1)
    return min(1.0, _ratio(2 * tail, changed))


def _ratio(number: int, bits: int) -> float:
    """number / 2**bits, where neither need fit a float."""
    shift = max(0, number.bit_length() - 64)
    return math.ldexp(number >> shift, shift - bits)


def sign_flips(differences: Sequence[float]) -> float:
    """The two-sided p: how often the sum is as far from 0, or farther, when each sign is drawn anew."""
    if not differences:
        return 1.0
    sizes = np.abs(np.array(differences, np.float64))
    seen = abs(math.fsum(differences)) - 1e-9 * float(sizes.sum())
    count = len(sizes)
    if count <= _EXACT:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float((np.abs(signs @ sizes) >= seen).mean())
    rng, hits, left = np.random.default_rng(_SEED), 0, _DRAWS
    while left:
        part = min(left, max(1, _FLIPS_AT_ONCE // count))
        signs = 1 - 2 * rng.integers(0, 2, (part, count), dtype=np.int8)
        hits += int((np.abs(signs @ sizes) >= seen).sum())
        left -= part
    return (hits + 1) / (_DRAWS + 1)
