"""What every tile scheme gives: a grid for an image of any size, the crops of that grid, and the tokens of one tile.

A scheme is a frozen dataclass whose fields are the keys of `tiles` in a recipe; `scheme`, a Literal of one text, is its
name there and in the shards. It knows sizes and pixels, nothing of models: tile counts come from (width, height) alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from PIL import Image


class Grid(NamedTuple):
    """rows x cols tiles, and whether the whole image follows as one more."""

    rows: int
    cols: int
    thumbnail: bool

    @property
    def num_tiles(self) -> int:
        return self.rows * self.cols + self.thumbnail


class Scheme(ABC):
    """Tiles are squares of `tile` pixels, made of patches of `patch`; `merge` x `merge` patches make one image token.

    A 512-pixel tile with patch 16 and merge 2 is 256 tokens (LLM-jp-4-VL); 448 with patch 14 too (InternVL 3).
    """

    scheme: str
    tile: int
    patch: int
    merge: int

    def __post_init__(self) -> None:
        if min(self.tile, self.patch, self.merge) < 1:
            raise ValueError(f"tile, patch and merge must be at least 1, got {self}")
        if self.tile % (self.patch * self.merge):
            raise ValueError(f"tile {self.tile} is not a multiple of patch x merge = {self.patch * self.merge}")

    @property
    def tokens_per_tile(self) -> int:
        return (self.tile // self.patch // self.merge) ** 2

    @abstractmethod
    def grid(self, width: int, height: int) -> Grid:
        """The grid for an upright image of so many pixels."""

    @abstractmethod
    def cut(self, image: Image.Image, grid: Grid) -> np.ndarray:
        """uint8 [num_tiles, tile, tile, 3] of an upright RGB image: row by row, the thumbnail last."""
