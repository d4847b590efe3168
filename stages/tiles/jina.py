"""The overlapping tiles of jina-vlm, which are those of Molmo.

An image is stretched onto rows x cols windows of 266 pixels and a margin of 56 around them all; each tile is a window
with that margin, so that neighbours share 112 pixels, and its features in the margin are dropped where it has a
neighbour. The grid is the one that shrinks the image least, or, if some grids need no shrinking, of those the one that
enlarges it least; the first of equals in the order of tiles and then of rows. The whole image comes first, as one tile.

Tokens: 27 patches of a side are pooled by two, the odd one alone, which leaves 14 x 14 of the whole image and R x C of
the grid, R = 10 rows + 4 (14 if it is one), C alike; each line ends with a `row`, the whole image and the grid have a
frame each: 214 + R (C + 1) in all. (The paper's 182 a tile and 2,366 an image, 729 / 4 and 13 times that, are not what
its code makes: 1,744 for 3 x 4 tiles, 2,074 at most.)

Pixels are bilinear without smoothing, rounded to whole ones, as in the released settings. Its processor's default is
to bring an image to [3136, 1003520] pixels first, by whole patches; whether the released model does is not known to
us. That is `pixels`, by default not done; it would change the grid of one image in twenty.

Source of the algorithm: allenai/molmo, olmo/data/model_preprocessor.py (select_tiling, overlap-and-resize-c2), and
jinaai/jina-vlm, image_processing_jvlm.py.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from stages.tiles.cut import rgb
from stages.tiles.scheme import Grid, Grids, Kind, Runs, Scheme, Size, check_size
from stages.tiles.smart_resize import all_smart_resize, check_pixels, smart_resize

_CHUNK = 1 << 13  # sizes whose arrays stay in a core's cache


@dataclass(frozen=True)
class Jina(Scheme):
    """At most `max_tiles` tiles of `tile` pixels that overlap by twice `margin` patches, pooled `merge` x `merge`."""

    scheme: Literal["jina"] = "jina"
    tile: int = 378
    patch: int = 14
    merge: int = 2
    margin: int = 4
    max_tiles: int = 12
    pixels: tuple[int, int] | None = None
    num_frames: ClassVar[int] = 2
    needs: ClassVar[frozenset[Kind]] = frozenset({"start", "row", "end"})

    def __post_init__(self) -> None:
        if min(self.tile, self.patch, self.merge, self.max_tiles) < 1 or self.margin < 0:
            raise ValueError(f"tile, patch, merge and max_tiles must be at least 1, margin at least 0, got {self}")
        if self.tile % self.patch or self.margin % self.merge:
            raise ValueError(f"tile must be a multiple of patch and margin one of merge, got {self}")
        if self._window < 1:
            raise ValueError(f"margin {self.margin} leaves nothing of {self.tile // self.patch} patches")
        if self.pixels is not None:
            check_pixels(self.pixels)

    @property
    def side(self) -> int:
        return self.tile

    @property
    def _window(self) -> int:
        """Patches from one tile to the next."""
        return self.tile // self.patch - 2 * self.margin

    @property
    def _around(self) -> int:
        """Pixels of both margins."""
        return 2 * self.margin * self.patch

    def grid(self, width: int, height: int) -> Grid:
        check_size(width, height)
        width, height = self._first(width, height)
        stride = self._window * self.patch
        return Grid(*_least_scaled(width - self._around, height - self._around, stride, self.max_tiles), True)

    def grids(self, widths: np.ndarray, heights: np.ndarray) -> Grids:
        stride, there = self._window * self.patch, np.ones(len(widths), np.bool_)
        if self.pixels is not None:
            widths, heights = all_smart_resize(widths, heights, self.patch, self.pixels)
            there = widths > 0
        rows, cols = _all_least_scaled(widths - self._around, heights - self._around, stride, self.max_tiles)
        lines = np.array([self._lines(tiles) for tiles in range(self.max_tiles + 1)])
        whole, down, across = self._lines(1), lines[rows], lines[cols]
        found = (rows, cols, np.ones(len(rows), np.int64), whole**2 + down * across, whole + down)
        return Grids(*(array * there for array in found))

    def runs(self, grid: Grid, width: int, height: int) -> Runs:
        return _blocks((self._lines(1),) * 2, (self._lines(grid.rows), self._lines(grid.cols)))

    def feature_order(self, grid: Grid, first: int) -> np.ndarray:
        across = self._lines(1)
        features = np.arange((1 + grid.rows * grid.cols) * across**2) + first * across**2
        whole, tiles = features[: across**2], features[across**2 :].reshape(grid.rows, grid.cols, across, across)
        down, over = self._kept(grid.rows), self._kept(grid.cols)
        lines = [tiles[row, :, line] for row, kept in enumerate(down) for line in range(across)[kept]]
        return np.concatenate([whole, *(line[col, kept] for line in lines for col, kept in enumerate(over))])

    def cut_into(self, tiles: np.ndarray, image: Image.Image, grid: Grid) -> None:
        stride = self._window * self.patch
        pixels = np.asarray(rgb(image), np.float32)
        size = self._first(*image.size)
        if size != image.size:
            pixels = _bilinear(pixels, *size).astype(np.float32)
        tiles[0] = _bilinear(pixels, self.tile, self.tile)
        canvas = _bilinear(pixels, grid.cols * stride + self._around, grid.rows * stride + self._around)
        starts = itertools.product(range(0, grid.rows * stride, stride), range(0, grid.cols * stride, stride))
        for tile, (top, left) in zip(tiles[1:], starts, strict=True):
            tile[:] = canvas[top : top + self.tile, left : left + self.tile]

    def _first(self, width: int, height: int) -> Size:
        """The size that an image has before its grid is chosen."""
        return (width, height) if self.pixels is None else smart_resize(width, height, self.patch, self.pixels)

    def _kept(self, tiles: int) -> list[slice]:
        """Of each of so many tiles in a row, its pooled patches that are not in a margin towards a neighbour."""
        pooled, edge = -(-self._window // self.merge), -(-(self._window + self.margin) // self.merge)
        if tiles == 1:
            return [slice(0, self._lines(1))]
        before = self.margin // self.merge
        middle = [slice(before, before + pooled)] * (tiles - 2)
        return [slice(0, edge), *middle, slice(before, before + edge)]

    def _lines(self, tiles: int) -> int:
        """Image tokens along so many tiles."""
        pooled, edge = -(-self._window // self.merge), -(-(self._window + self.margin) // self.merge)
        return -(-(self.tile // self.patch) // self.merge) if tiles == 1 else 2 * edge + (tiles - 2) * pooled


@lru_cache(maxsize=1024)
def _blocks(*sizes: tuple[int, int]) -> Runs:
    """Framed blocks of (lines, image tokens a line)."""
    runs: list[tuple[Kind, int]] = []
    for lines, across in sizes:
        line: list[tuple[Kind, int]] = [("patch", across), ("row", 1)]
        runs += [("start", 1), *line * lines, ("end", 1)]
    return tuple(runs)


@lru_cache(maxsize=65536)
def _least_scaled(width: int, height: int, stride: int, max_tiles: int) -> tuple[int, int]:
    """(rows, cols). Sides may be 0 or less, where an image is smaller than its margins."""
    tilings = _tilings(max_tiles)
    with np.errstate(divide="ignore"):
        scales = (tilings * stride).astype(np.float32) / np.array([height, width], np.float32)
    scale = scales.min(1)
    chosen = scale.argmax() if (scale < 1).all() else np.where(scale < 1, np.float32(10e9), scale).argmin()
    rows, cols = tilings[chosen].tolist()
    return rows, cols


def _all_least_scaled(
    widths: np.ndarray, heights: np.ndarray, stride: int, max_tiles: int
) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.zeros(len(widths), np.intp)
    for first in range(0, len(widths), _CHUNK):
        some = slice(first, first + _CHUNK)
        _choose(widths[some].astype(np.float32), heights[some].astype(np.float32), stride, max_tiles, chosen[some])
    found = _tilings(max_tiles)[chosen]
    return found[:, 0], found[:, 1]


def _choose(widths: np.ndarray, heights: np.ndarray, stride: int, max_tiles: int, chosen: np.ndarray) -> None:
    """Fill in the number of each one's tiling."""
    least, most = np.full(len(widths), np.inf, np.float32), np.full(len(widths), -np.inf, np.float32)
    shrunk = np.zeros(len(widths), np.intp)
    with np.errstate(divide="ignore"):
        strides = stride * np.arange(1, max_tiles + 1, dtype=np.float32)
        down, across = strides[:, None] / heights, strides[:, None] / widths
    for number, (rows, cols) in enumerate(_tilings(max_tiles).tolist()):
        scale = np.minimum(down[rows - 1], across[cols - 1])
        np.copyto(shrunk, number, where=scale > most)
        np.maximum(most, scale, out=most)
        better = (scale >= 1) & (scale < least)
        np.copyto(chosen, number, where=better)
        np.copyto(least, scale, where=better)
    np.copyto(chosen, shrunk, where=most < 1)


@lru_cache
def _tilings(max_tiles: int) -> np.ndarray:
    """Every (rows, cols) of at most so many tiles, in the order of tiles and then of rows."""
    sides = range(1, max_tiles + 1)
    found = [(rows, cols) for rows in sides for cols in sides if rows * cols <= max_tiles]
    return np.array(sorted(found, key=lambda grid: (grid[0] * grid[1], grid[0])), np.int64)


def _bilinear(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3] of float32, by the very function that the reference's resize ends in."""
    import torch  # what cuts tiles trains or answers; what counts them does without

    image: Any = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    found = torch.nn.functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)
    done: np.ndarray = found[0].round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return done
