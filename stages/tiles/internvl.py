"""The dynamic tiling of InternVL 1.5-3.

Take the grid of at most `max_tiles` square tiles whose aspect ratio is nearest to the image's (nearest.py), stretch
the image onto it, cut it row by row, and append the whole image as a thumbnail unless the grid is 1 x 1.

Source of the algorithm: OpenGVLab/InternVL, internvl_chat/internvl/train/dataset.py (dynamic_preprocess).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from stages.tiles.cut import stretch
from stages.tiles.nearest import all_nearest, nearest
from stages.tiles.scheme import EqualTiles, Grid, Grids, check_size


@dataclass(frozen=True)
class InternVL(EqualTiles):
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
        check_size(width, height)
        rows, cols = nearest(width, height, self.tile, self.max_tiles)
        return Grid(rows, cols, self.thumbnail and rows * cols > 1)

    def grids(self, widths: np.ndarray, heights: np.ndarray) -> Grids:
        rows, cols = all_nearest(widths, heights, self.tile, self.max_tiles)
        return self._all(rows, cols, (rows * cols > 1) & self.thumbnail)

    def cut_into(self, tiles: np.ndarray, image: Image.Image, grid: Grid) -> None:
        stretch(tiles, image, grid)
