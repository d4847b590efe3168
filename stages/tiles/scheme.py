"""What every tile scheme gives for an image of any size: a grid, the crops of that grid, and the tokens they become.

A scheme is a frozen dataclass whose fields are the keys of `tiles` in a recipe; `scheme`, a Literal of one text, is its
name there and in the shards. It knows sizes and pixels, nothing of models or vocabularies. Its tokens are named by
kind, as runs (kind, how many) in the order in which they stand; stages/chat.py gives them ids:

  patch        an image token: here stands a feature of the vision tower
  row          ends a row of image tokens; the image token again where a recipe names none
  start, end   frame what lies between them; absent where a recipe names none

`grids` is `grid` for arrays of sizes, at a million sizes a second: what a census asks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from PIL import Image

Kind = Literal["patch", "row", "start", "end"]
Runs = tuple[tuple[Kind, int], ...]
Size = tuple[int, int]


class NoGrid(ValueError):
    """The system's own processor refuses an image of this size."""


class Grid(NamedTuple):
    """rows x cols tiles, and whether the whole image is one more."""

    rows: int
    cols: int
    thumbnail: bool

    @property
    def num_tiles(self) -> int:
        return self.rows * self.cols + self.thumbnail


class Grids(NamedTuple):
    """Grids of many images, and how many tokens of kind `patch` and `row` each takes. Where there is no grid, all 0."""

    rows: np.ndarray
    cols: np.ndarray
    thumbnail: np.ndarray
    num_patches: np.ndarray
    num_rows: np.ndarray

    @property
    def num_tiles(self) -> np.ndarray:
        found: np.ndarray = self.rows * self.cols + self.thumbnail
        return found


class Scheme(ABC):
    """`num_frames`: the frames of one image; `needs`: the kinds of tokens that a recipe has to name beside `patch`."""

    scheme: str
    num_frames: ClassVar[int] = 1
    needs: ClassVar[frozenset[Kind]] = frozenset()

    @property
    @abstractmethod
    def side(self) -> int:
        """Pixels of a tile's side."""

    @abstractmethod
    def grid(self, width: int, height: int) -> Grid:
        """The grid for an upright image of so many pixels. Raises NoGrid."""

    @abstractmethod
    def grids(self, widths: np.ndarray, heights: np.ndarray) -> Grids:
        """The grids for images of so many pixels: integers, at least 1."""

    @abstractmethod
    def runs(self, grid: Grid, width: int, height: int) -> Runs:
        """The tokens of an image of so many pixels on its grid."""

    def feature_order(self, grid: Grid, first: int) -> np.ndarray:
        """For each `patch` of a grid, in order, which of the tiles' features stands there. A tile has equally many,
        row by row; its tiles begin with number `first`. int64; none of a scheme that no model reads yet."""
        return np.empty(0, np.int64)

    @abstractmethod
    def cut_into(self, tiles: np.ndarray, image: Image.Image, grid: Grid) -> None:
        """Fill uint8 [num_tiles, side, side, 3] from an upright RGB image: row by row, the thumbnail last or first."""

    def cut(self, image: Image.Image, grid: Grid) -> np.ndarray:
        """The tiles of an image as an array of their own."""
        tiles = self.room(grid.num_tiles)
        self.cut_into(tiles, image, grid)
        return tiles

    def room(self, num_tiles: int) -> np.ndarray:
        """uint8 [num_tiles, side, side, 3], to be filled."""
        return np.empty((num_tiles, self.side, self.side, 3), np.uint8)

    def grids_of(self, sizes: Sequence[Size], count_text: Callable[[], int]) -> list[Grid]:
        """The grids of a conversation's images; `count_text` gives the tokens of its text to a scheme that asks."""
        return [self.grid(*size) for size in sizes]

    def possible(self, width: int, height: int) -> Collection[Grid]:
        """Every grid that `grids_of` may give an image of so many pixels."""
        return [self.grid(width, height)]


class EqualTiles(Scheme):
    """Every tile becomes equally many tokens, tile by tile, in one frame.

    Tiles are squares of `tile` pixels, made of patches of `patch`; `merge` x `merge` patches make one image token. A
    512-pixel tile with patch 16 and merge 2 is 256 tokens (LLM-jp-4-VL); 448 with patch 14 too (InternVL 3).
    """

    tile: int
    patch: int
    merge: int

    def __post_init__(self) -> None:
        if min(self.tile, self.patch, self.merge) < 1:
            raise ValueError(f"tile, patch and merge must be at least 1, got {self}")
        if self.tile % (self.patch * self.merge):
            raise ValueError(f"tile {self.tile} is not a multiple of patch x merge = {self.patch * self.merge}")

    @property
    def side(self) -> int:
        return self.tile

    @property
    def tokens_per_tile(self) -> int:
        return (self.tile // self.patch // self.merge) ** 2

    def runs(self, grid: Grid, width: int, height: int) -> Runs:
        return framed(grid.num_tiles * self.tokens_per_tile)

    def feature_order(self, grid: Grid, first: int) -> np.ndarray:
        return np.arange(first * self.tokens_per_tile, (first + grid.num_tiles) * self.tokens_per_tile)

    def _all(self, rows: np.ndarray, cols: np.ndarray, thumbnail: np.ndarray) -> Grids:
        tiles = rows * cols + thumbnail
        return Grids(rows, cols, thumbnail, tiles * self.tokens_per_tile, np.zeros_like(tiles))


def framed(num_patches: int) -> Runs:
    """So many image tokens in one frame."""
    return (("start", 1), ("patch", num_patches), ("end", 1))


def count(runs: Runs, *kinds: Kind) -> int:
    """How many tokens of some kinds there are."""
    return sum(number for kind, number in runs if kind in kinds)


def check_size(width: int, height: int) -> None:
    """Raise ValueError unless an image can have so many pixels."""
    if width < 1 or height < 1:
        raise ValueError(f"an image is at least 1 x 1 pixel, got {width} x {height}")
