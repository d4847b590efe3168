"""The two ways of LLaVA 1.5 to make one square tile of an image: 336 pixels, patch 14, 576 tokens.

`llava15-square`, its first stage: the shorter side becomes `tile`, the longer one is cut to its middle.
`llava15-pad`, its second stage: the image stands in the middle of a square of the mean colour of CLIP, which is
resized to `tile`.

Source of the algorithms: haotian-liu/LLaVA, llava/mm_utils.py (process_images, expand2square) and the image processor
of CLIP, as transformers has it; both bicubic. Beyond a ratio of sides of 64, and beyond 16,384 pixels of a side, where
their canvases would take gigabytes, the pixels are near theirs and not the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from stages.tiles.cut import resized, rgb
from stages.tiles.scheme import EqualTiles, Grid, Grids, check_size

_MEAN = (122, 116, 104)  # of CLIP, times 255, without its fraction
_LONGEST, _STRIP = 1 << 14, 1 << 22  # a side of a square, and the pixels of it that are made at a time
_RATIO = 64


class _OneTile(EqualTiles):
    def grid(self, width: int, height: int) -> Grid:
        check_size(width, height)
        return Grid(1, 1, False)

    def grids(self, widths: np.ndarray, heights: np.ndarray) -> Grids:
        one = np.ones(len(widths), np.int64)
        return self._all(one, one, np.zeros(len(widths), np.bool_))


@dataclass(frozen=True)
class Llava15Square(_OneTile):
    """The middle of an image whose shorter side is `tile` pixels."""

    scheme: Literal["llava15-square"] = "llava15-square"
    tile: int = 336
    patch: int = 14
    merge: int = 1

    def cut_into(self, tiles: np.ndarray, image: Image.Image, grid: Grid) -> None:
        long = int(self.tile * max(image.size) / min(image.size))
        start = (long - self.tile) // 2
        if long > _RATIO * self.tile:
            tiles[0] = _middle(image, start / long, (start + self.tile) / long, self.tile)
            return
        wide = image.width > image.height
        whole = resized(image, long if wide else self.tile, self.tile if wide else long)
        middle = slice(start, start + self.tile)
        tiles[0] = whole[:, middle] if wide else whole[middle]


@dataclass(frozen=True)
class Llava15Pad(_OneTile):
    """An image in the middle of a square, as `tile` pixels."""

    scheme: Literal["llava15-pad"] = "llava15-pad"
    tile: int = 336
    patch: int = 14
    merge: int = 1

    def cut_into(self, tiles: np.ndarray, image: Image.Image, grid: Grid) -> None:
        image = rgb(image)
        if max(image.size) > _LONGEST:
            image = image.reduce(-(-max(image.size) // _LONGEST))
        side = max(image.size)
        left, top = (side - image.width) // 2, (side - image.height) // 2
        # Resizing goes by columns first, a row at a time: so the square need never be whole
        square = Image.new("RGB", (self.tile, side), _MEAN)
        for strip in _strips(image, side):
            canvas = Image.new("RGB", (side, strip.height), _MEAN)
            canvas.paste(strip, (left, 0))
            square.paste(canvas.resize((self.tile, strip.height), Image.Resampling.BICUBIC), (0, top))
            top += strip.height
        tiles[0] = resized(square, self.tile, self.tile)


def _strips(image: Image.Image, side: int) -> list[Image.Image]:
    """Rows of an image, as many together as make a strip of a square."""
    step = max(1, _STRIP // side)
    tops = range(0, image.height, step)
    return [image.crop((0, top, image.width, min(top + step, image.height))) for top in tops]


def _middle(image: Image.Image, first: float, last: float, side: int) -> np.ndarray:
    """A square from the part [first, last) of the longer side."""
    wide = image.width > image.height
    length = max(image.size)
    box = (first * length, 0, last * length, image.height) if wide else (0, first * length, image.width, last * length)
    return np.asarray(rgb(image).resize((side, side), Image.Resampling.BICUBIC, box=box))
