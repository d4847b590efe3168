"""The grid whose aspect ratio is nearest to an image's: the rule of InternVL 1.5-3, which LLM-jp-4-VL shares.

Among all grids of at most `max_tiles` tiles, in the order of their area, the first nearest one wins; a later one that
is as near takes its place if the image has more than half as many pixels as its tiles.

Source of the algorithm: OpenGVLab/InternVL, internvl_chat/internvl/train/dataset.py (dynamic_preprocess,
find_closest_aspect_ratio). The original iterates over a set sorted by area; the order within one area here (columns
outer, rows inner, as transformers' got_ocr2 image processor has it) gives the same grid for every size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_CHUNK = 1 << 13  # sizes whose arrays stay in a core's cache


@lru_cache(maxsize=65536)
def nearest(width: int, height: int, side: int, max_tiles: int) -> tuple[int, int]:
    """(rows, cols) for one size."""
    best, best_distance, aspect = (1, 1), float("inf"), width / height
    for rows, cols in candidates(max_tiles):
        distance = abs(aspect - cols / rows)
        if distance < best_distance:
            best, best_distance = (rows, cols), distance
        elif distance == best_distance and width * height > 0.5 * side * side * cols * rows:
            best = (rows, cols)
    return best


def all_nearest(widths: np.ndarray, heights: np.ndarray, side: int, max_tiles: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, cols) for arrays of sizes."""
    chosen = np.zeros(len(widths), np.intp)
    for first in range(0, len(widths), _CHUNK):
        some = slice(first, first + _CHUNK)
        _choose(widths[some] / heights[some], widths[some] * heights[some], side, max_tiles, chosen[some])
    rows, cols = np.array(candidates(max_tiles), np.int64).T
    return rows[chosen], cols[chosen]


def _choose(aspect: np.ndarray, area: np.ndarray, side: int, max_tiles: int, chosen: np.ndarray) -> None:
    """Fill in the number of each one's candidate."""
    best, large = np.full(len(aspect), np.inf), area / (0.5 * side * side)
    for number, (rows, cols) in enumerate(candidates(max_tiles)):
        distance = np.abs(aspect - cols / rows)
        better = (distance < best) | ((distance == best) & (large > cols * rows))
        np.copyto(chosen, number, where=better)
        np.minimum(best, distance, out=best)


@lru_cache
def candidates(max_tiles: int) -> tuple[tuple[int, int], ...]:
    """Every (rows, cols) of at most so many tiles."""
    sides = range(1, max_tiles + 1)
    grids = [(rows, cols) for cols in sides for rows in sides if cols * rows <= max_tiles]
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))
