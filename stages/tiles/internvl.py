"""(width, height) -> grid of tiles, and the crops themselves. One place for the pipeline, the trainer and inference.

The scheme `internvl` is the dynamic tiling of InternVL 1.5-3 and of LLM-jp-4-VL: among all grids of at most `max_tiles`
square tiles take the one whose aspect ratio is nearest to the image's, stretch the image onto it, cut it row by row,
and append the whole image as a thumbnail unless the grid is 1 x 1.

Source of the algorithm: OpenGVLab/InternVL, internvl_chat/internvl/train/dataset.py (dynamic_preprocess,
find_closest_aspect_ratio). The original iterates over a set sorted by area; the order within one area here (columns
outer, rows inner, as transformers' got_ocr2 image processor has it) gives the same grid for every size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


@dataclass(frozen=True)
class TileScheme:
    """How images become tiles. `tile` and `patch` in pixels; `merge` x `merge` patches make one image token.

    A 512-pixel tile with patch 16 and merge 2 is 256 tokens (LLM-jp-4-VL); 448 with patch 14 too (InternVL 3).
    """

    scheme: Literal["internvl"] = "internvl"
    tile: int = 448
    patch: int = 14
    merge: int = 2
    max_tiles: int = 12
    thumbnail: bool = True

    def __post_init__(self) -> None:
        if min(self.tile, self.patch, self.merge, self.max_tiles) < 1:
            raise ValueError(f"tile, patch, merge and max_tiles must be at least 1, got {self}")
        if self.tile % (self.patch * self.merge):
            raise ValueError(f"tile {self.tile} is not a multiple of patch x merge = {self.patch * self.merge}")

    @property
    def tokens_per_tile(self) -> int:
        return (self.tile // self.patch // self.merge) ** 2


class Grid(NamedTuple):
    """rows x cols tiles, and whether the whole image follows as one more."""

    rows: int
    cols: int
    thumbnail: bool

    @property
    def num_tiles(self) -> int:
        return self.rows * self.cols + self.thumbnail


def choose_grid(width: int, height: int, scheme: TileScheme) -> Grid:
    """The grid for an upright image of `width` x `height` pixels."""
    if width < 1 or height < 1:
        raise ValueError(f"an image is at least 1 x 1 pixel, got {width} x {height}")
    cols, rows = _nearest(width, height, scheme.tile, scheme.max_tiles)
    return Grid(rows, cols, scheme.thumbnail and rows * cols > 1)


def cut(image: Image.Image, grid: Grid, scheme: TileScheme) -> np.ndarray:
    """uint8 [num_tiles, tile, tile, 3] of an RGB image, row-major, thumbnail last; bicubic, aspect ratio not kept."""
    import numpy as np

    side = scheme.tile
    canvas = np.asarray(_resized(image, grid.cols * side, grid.rows * side))
    tiles = canvas.reshape(grid.rows, side, grid.cols, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    if grid.thumbnail:
        tiles = np.concatenate([tiles, np.asarray(_resized(image, side, side))[None]])
    return np.ascontiguousarray(tiles)


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    from PIL import Image

    if image.mode != "RGB":
        raise ValueError(f"tiles are cut from RGB images, got {image.mode}; open them with stages.images.open_rgb")
    return image.resize((width, height), Image.Resampling.BICUBIC)


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
