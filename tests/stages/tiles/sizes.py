"""Sizes of images to compare grids on: random ones, and all that are known to make rules tie or break."""

from __future__ import annotations

import itertools

import numpy as np

# Sides around the multiples of every scheme's tile or stride, around the margins of `jina`, and the smallest ones
_STEPS = (14, 28, 266, 336, 378, 448, 512)
_EDGES = sorted(
    {1, 2, 3, 13, 15, 111, 112, 113, 126, 4000, 20_000}
    | {step * times + off for step in _STEPS for times in (1, 2, 3, 4, 6, 12) for off in (-1, 0, 1)}
    | {112 + 266 * times + off for times in range(1, 13) for off in (-1, 0, 1)}
)
# Every ratio of small numbers at several scales; at halves of tiles areas tie as well
TIES = [
    (c * scale, r * scale)
    for scale in (1, 16, 28, 56, 112, 224, 256, 362, 448, 512)
    for c in range(1, 13)
    for r in range(1, 13)
]


def sizes(count: int = 100_000) -> tuple[np.ndarray, np.ndarray]:
    """(widths, heights): `count` random ones, then every edge by every edge, and the ties."""
    rng = np.random.default_rng(20)
    third = count // 3
    small, large = rng.integers(1, 6000, (third, 2)), np.exp(rng.uniform(0, 10, (count - 2 * third, 2))).astype(int) + 1
    ratios = rng.integers(1, 30, (third, 2)) * rng.integers(1, 200, (third, 1))
    found = np.concatenate([small, large, ratios, np.array([*itertools.product(_EDGES, _EDGES), *TIES])])
    return found[:, 0].astype(np.int64), found[:, 1].astype(np.int64)


def some(count: int) -> list[tuple[int, int]]:
    """So many of those sizes, edges among them, and every tie."""
    widths, heights = sizes(count)
    chosen = np.random.default_rng(4).permutation(len(widths))[:count]
    return [*zip(widths[chosen].tolist(), heights[chosen].tolist(), strict=True), *TIES]
