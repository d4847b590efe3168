"""The dynamic tiling of InternVL 1.5-3 and of LLM-jp-4-VL.

Among all grids of at most `max_tiles` square tiles take the one whose aspect ratio is nearest to the image's, stretch
the image onto it, cut it row by row, and append the whole image as a thumbnail unless the grid is 1 x 1.

Source of the algorithm: OpenGVLab/InternVL, internvl_chat/internvl/train/dataset.py (dynamic_preprocess,
find_closest_aspect_ratio). The original iterates over a set sorted by area; the order within one area here (columns
outer, rows inner, as transformers' got_ocr2 image processor has it) gives the same grid for every size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image

from stages.tiles.cut import stretched
from stages.tiles.scheme import Grid, Scheme


@dataclass(frozen=True)
class InternVL(Scheme):
    """At most `max_tiles` tiles of `tile` pixels, and a thumbnail if `thumbnail`."""

    scheme: Literal["internvl"] = "internvl"
    tile: int = 448
    patch: int = 14
    merge: int = 2
    max_tiles: int = 12
    thumbnail: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tiles < 1:
            raise ValueError(f"max_tiles must be at least 1, got {self.max_tiles}")

    def grid(self, width: int, height: int) -> Grid:
        if width < 1 or height < 1:
            raise ValueError(f"an image is at least 1 x 1 pixel, got {width} x {height}")
        cols, rows = _nearest(width, height, self.tile, self.max_tiles)
        return Grid(rows, cols, self.thumbnail and rows * cols > 1)

    def cut(self, image: Image.Image, grid: Grid) -> np.ndarray:
        return stretched(image, grid, self.tile)


@lru_cache(maxsize=65536)
def _nearest(width: int, height: int, side: int, max_tiles: int) -> tuple[int, int]:
    best, best_distance, aspect = (1, 1), float("inf"), width / height
    for cols, rows in _candidates(max_tiles):
        distance = abs(aspect - cols / rows)
        if distance < best_distance:
            best, best_distance = (cols, rows), distance
        elif distance == best_distance and width * height > 0.5 * side * side * cols * rows:
            best = (cols, rows)
    return best


@lru_cache
def _candidates(max_tiles: int) -> tuple[tuple[int, int], ...]:
    sides = range(1, max_tiles + 1)
    grids = [(cols, rows) for cols in sides for rows in sides if cols * rows <= max_tiles]
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))
