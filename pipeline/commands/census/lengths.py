"""How long rows are: exact quantiles, and a histogram with four bins to a doubling."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping

_TO_A_DOUBLING = 4
_QUANTILES = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def quantiles(lengths: Mapping[int, int]) -> dict[str, int]:
    """Of so many rows of each length: the least length that such a share of the rows does not exceed."""
    total, found, passed = sum(lengths.values()), {}, 0
    left = dict(_QUANTILES)
    for length in sorted(lengths):
        passed += lengths[length]
        for name in [name for name, share in left.items() if passed >= share * total]:
            found[name] = length
            del left[name]
    return found


def bins(lengths: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """(from, below, rows) of every bin between the shortest and the longest row."""
    if not lengths:
        return []
    edges, power = [1], 0
    while edges[-1] <= max(lengths):
        power += 1
        edges.append(max(edges[-1] + 1, round(2 ** (power / _TO_A_DOUBLING))))
    held: Counter[int] = Counter()
    for length, rows in lengths.items():
        held[bisect_right(edges, length) - 1] += rows
    return [(edges[at], edges[at + 1], held[at]) for at in range(min(held), max(held) + 1)]
