"""The dynamic resolution of Qwen2-VL: no tiles, but an image near its own size, in whole tokens.

An image is resized so that both sides are multiples of patch x merge = 28 pixels and its pixels lie within `pixels`
(smart_resize.py). Here each of its tokens is a tile of 28 pixels: 2 x 2 patches in the order in which Qwen2-VL takes
them. Images with one side more than 200 times as long as the other have no grid.

Source of the algorithm: transformers, models/qwen2_vl/image_processing_pil_qwen2_vl.py; `pixels` are its defaults, some
checkpoints allow up to 12,845,056.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from stages.tiles.cut import stretch
from stages.tiles.scheme import Grid, Grids, Runs, Scheme, check_size, framed
from stages.tiles.smart_resize import all_smart_resize, check_pixels, smart_resize


@dataclass(frozen=True)
class QwenNative(Scheme):
    """Tokens of `merge` x `merge` patches of `patch` pixels; at least and at most so many `pixels`."""

    scheme: Literal["qwen-native"] = "qwen-native"
    patch: int = 14
    merge: int = 2
    pixels: tuple[int, int] = (56 * 56, 28 * 28 * 1280)

    def __post_init__(self) -> None:
        if min(self.patch, self.merge) < 1:
            raise ValueError(f"patch and merge must be at least 1, got {self.patch} and {self.merge}")
        check_pixels(self.pixels)

    @property
    def side(self) -> int:
        return self.patch * self.merge

    def grid(self, width: int, height: int) -> Grid:
        check_size(width, height)
        across, down = smart_resize(width, height, self.side, self.pixels)
        return Grid(down // self.side, across // self.side, False)

    def grids(self, widths: np.ndarray, heights: np.ndarray) -> Grids:
        across, down = all_smart_resize(widths, heights, self.side, self.pixels)
        rows, cols, none = down // self.side, across // self.side, np.zeros(len(widths), np.int64)
        return Grids(rows, cols, none, rows * cols, none)

    def runs(self, grid: Grid, width: int, height: int) -> Runs:
        return framed(grid.num_tiles)

    def cut_into(self, tiles: np.ndarray, image: Image.Image, grid: Grid) -> None:
        stretch(tiles, image, grid)
