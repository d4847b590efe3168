"""How many sizes a second each tile scheme counts, by arrays and one at a time.

    python -m benchmarks.grids

Sizes are random, none twice in a hundred, so that what is remembered between them helps little. One core.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Callable

import numpy as np

from stages.tiles.scheme import NoGrid, Scheme
from stages.tiles.table import TileScheme

MANY, FEW = 1_000_000, 5_000


def best_of(times: int, work: Callable[[], None]) -> float:
    """Seconds of the fastest run."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def one_by_one(scheme: Scheme, widths: np.ndarray, heights: np.ndarray) -> None:
    for width, height in zip(widths.tolist(), heights.tolist(), strict=True):
        try:
            scheme.runs(scheme.grid(width, height), width, height)
        except NoGrid:
            continue


def main() -> None:
    rng = np.random.default_rng(0)
    widths, heights = rng.integers(1, 5000, (2, MANY))
    print(f"{'scheme':<16} {'arrays/s':>12} {'one by one/s':>14}")
    for kind in typing.get_args(TileScheme):
        scheme: Scheme = kind()
        by_arrays = MANY / best_of(3, lambda scheme=scheme: scheme.grids(widths, heights))  # type: ignore[misc]
        few = widths[:FEW], heights[:FEW]
        singly = FEW / best_of(1, lambda scheme=scheme, few=few: one_by_one(scheme, *few))  # type: ignore[misc]
        print(f"{scheme.scheme:<16} {by_arrays:>12,.0f} {singly:>14,.0f}")


if __name__ == "__main__":
    main()
