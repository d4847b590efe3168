"""LLaVA 1.6: the whole image as one tile, then the image on the best of a few grids, without what was only padding.

Of the `pinpoints` (rows x cols of tiles) that one wins on which the most pixels of the image remain when it is resized
to fit; of equals the one that wastes fewest. The image is resized to fit, its aspect ratio kept, and stands in the
middle of black; tiles are cut row by row, after the whole image, which is stretched onto one tile.

Tokens: 24 x 24 of the whole image; then of the grid's patches, stitched together, the lines or columns that hold the
image, each line ended by a `row`. (In LLaVA that is a learned vector, image_newline; transformers' processor writes
the image token for it, which is what stands here where a recipe names no token for rows.)

The default `pinpoints` are those of transformers' checkpoints, [336, 672], [672, 336], ... read as (height, width). The
original reads the same list as (width, height): for it give [[2, 1], [1, 2], [2, 2], [1, 3], [3, 1]]. They part where
an image fits two of them alike.

Source of the algorithm: haotian-liu/LLaVA, llava/mm_utils.py (select_best_resolution, process_anyres_image) and
llava/model/llava_arch.py (unpad_image), as in transformers' processor and model of LLaVA-NeXT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from stages.tiles.cut import place, resized
from stages.tiles.scheme import Grid, Grids, Kind, Runs, Scheme, check_size


@dataclass(frozen=True)
class LlavaAnyres(Scheme):
    """Grids of `pinpoints` (rows, cols), tiles of `tile` pixels and patches of `patch`."""

    scheme: Literal["llava-anyres"] = "llava-anyres"
    tile: int = 336
    patch: int = 14
    pinpoints: tuple[tuple[int, int], ...] = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))

    def __post_init__(self) -> None:
        if min(self.tile, self.patch) < 1 or self.tile % self.patch:
            raise ValueError(f"tile must be a multiple of patch, both at least 1, got {self.tile} and {self.patch}")
        if not self.pinpoints or min(map(min, self.pinpoints)) < 1:
            raise ValueError(f"pinpoints: got {list(self.pinpoints)}, wanted one or more [rows, cols] of at least 1")

    @property
    def side(self) -> int:
        return self.tile

    def grid(self, width: int, height: int) -> Grid:
        check_size(width, height)
        kept = [self._kept(width, height, *pinpoint) for pinpoint in self.pinpoints]
        # most pixels kept, then fewest tiles, then the first
        best = max(range(len(kept)), key=lambda n: (kept[n], -math.prod(self.pinpoints[n]), -n))
        return Grid(*self.pinpoints[best], True)

    def grids(self, widths: np.ndarray, heights: np.ndarray) -> Grids:
        best, chosen = np.full(len(widths), -1, np.int64), np.zeros(len(widths), np.intp)
        order = sorted(range(len(self.pinpoints)), key=lambda n: math.prod(self.pinpoints[n]))
        for number in order:
            rows, cols = (side * self.tile for side in self.pinpoints[number])
            scale = np.minimum(cols / widths, rows / heights)
            kept = np.minimum((widths * scale).astype(np.int64) * (heights * scale).astype(np.int64), widths * heights)
            np.copyto(chosen, number, where=kept > best)
            np.maximum(best, kept, out=best)
        rows, cols = np.array(self.pinpoints, np.int64)[chosen].T
        down, across = self._unpadded(rows, cols, widths, heights)
        return Grids(rows, cols, np.ones(len(rows), np.bool_), self._base**2 + down * across, down)

    def runs(self, grid: Grid, width: int, height: int) -> Runs:
        sides = (np.array([side]) for side in (grid.rows, grid.cols, width, height))
        down, across = (int(side[0]) for side in self._unpadded(*sides))
        line: list[tuple[Kind, int]] = [("patch", across), ("row", 1)] if across else [("row", 1)]
        return (("start", 1), ("patch", self._base**2), *line * down, ("end", 1))

    def cut_into(self, tiles: np.ndarray, image: Image.Image, grid: Grid) -> None:
        width, height = grid.cols * self.tile, grid.rows * self.tile
        across, down = width / image.width, height / image.height
        if across < down:
            fitted = width, min(math.ceil(image.height * across), height)
        else:
            fitted = min(math.ceil(image.width * down), width), height
        left, top = (width - fitted[0]) // 2, (height - fitted[1]) // 2
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[top : top + fitted[1], left : left + fitted[0]] = resized(image, *fitted)
        tiles[0] = resized(image, self.tile, self.tile)
        place(tiles[1:], canvas)

    @property
    def _base(self) -> int:
        """Patches of a tile's side."""
        return self.tile // self.patch

    def _kept(self, width: int, height: int, rows: int, cols: int) -> int:
        """Pixels of an image that are left of it on a grid."""
        scale = min(cols * self.tile / width, rows * self.tile / height)
        return min(int(width * scale) * int(height * scale), width * height)

    def _unpadded(
        self, rows: np.ndarray, cols: np.ndarray, widths: np.ndarray, heights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lines of patches, and patches in each, that hold more than padding."""
        down, across = rows * self._base, cols * self._base
        wide = widths / heights > across / down
        lines, columns = _whole(heights * (across / widths)), _whole(widths * (down / heights))
        return np.where(wide, down - (down - lines) // 2 * 2, down), np.where(
            wide, across, across - (across - columns) // 2 * 2
        )


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Without their fraction, but up where that is only the error of a division, as transformers does it."""
    found: np.ndarray = np.round(numbers, 7).astype(np.int64)
    return found
