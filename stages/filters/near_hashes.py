"""All pairs of 64-bit hashes within a radius, without comparing each with each.

A hash is cut into four bands of 16 bits. Of two hashes within r bits, one band differs in at most r // 4 (pigeonhole),
so it is enough to look, band by band, at the hashes whose band is one of the few values that near: none is missed,
whatever the radius. A pair is named once, in the first band that finds it, so nobody remembers pairs: memory is that of
the hashes and of one lot. `crossing` does the same between two sets.

At 100,000 hashes and r = 10 each band looks at 137 values; a radius above 12 asks for thousands, and costs as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

Array = np.ndarray
Pairs = tuple[Array, Array]

_BANDS, _BITS = 4, 16
_FEW = 1 << 19  # pairs that are compared each with each: bands would cost more
_LOT = 1 << 21  # pairs that are looked at at a time: 100 MiB


def crossing(left: Array, right: Array, radius: int) -> Iterator[Pairs]:
    """(i, j) of all left[i] and right[j] at most `radius` bits apart, lot by lot; each pair once."""
    if len(left) * len(right) <= _FEW:
        yield np.nonzero(np.bitwise_count(left[:, None] ^ right[None, :]) <= radius)  # type: ignore[misc]
        return
    for band in range(_BANDS):
        for i, j in _in_band(_values(left, band), _values(right, band), radius // _BANDS):
            apart = left[i] ^ right[j]
            near = np.bitwise_count(apart) <= radius
            apart = apart[near]
            for earlier in range(band):
                near[near] = new = np.bitwise_count(_values(apart, earlier)) > radius // _BANDS
                apart = apart[new]
            if near.any():
                yield i[near], j[near]


def _values(phash: Array, band: int) -> Array:
    return np.asarray((phash >> np.uint64(_BITS * band)).astype(np.uint16))


def _in_band(left: Array, right: Array, radius: int) -> Iterator[Pairs]:
    """(i, j) of all 16-bit values at most `radius` bits apart."""
    order = np.argsort(right, kind="stable")
    first = np.searchsorted(right[order], np.arange((1 << _BITS) + 1))
    for masks in _masks(radius):
        value = left[None, :] ^ masks[:, None]
        start, count = first[value].ravel(), (first[value.astype(np.int64) + 1] - first[value]).ravel()
        for rows in _lots(count):
            many = count[rows]
            i = np.repeat(np.arange(rows.start, rows.stop) % len(left), many)
            within = np.arange(len(i)) - np.repeat(np.cumsum(many) - many, many)
            yield i, order[np.repeat(start[rows], many) + within]


def _masks(radius: int) -> Iterator[Array]:
    """All 16-bit values of at most `radius` bits, some at a time."""
    for bits in range(min(radius, _BITS) + 1):
        masks = [sum(1 << place for place in places) for places in combinations(range(_BITS), bits)]
        for start in range(0, len(masks), 8):
            yield np.array(masks[start : start + 8], np.uint16)


def _lots(count: Array) -> Iterator[slice]:
    """Rows whose counts add up to at most _LOT; a row that has more is alone."""
    total = np.cumsum(count)
    start = 0
    while start < len(count):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + _LOT, "right")))
        yield slice(start, stop)
        start = stop
