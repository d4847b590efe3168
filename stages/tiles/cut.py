"""Crops of an image by its grid, as schemes share them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stages.tiles.scheme import Grid


def stretched(image: Image.Image, grid: Grid, side: int) -> np.ndarray:
    """uint8 [num_tiles, side, side, 3] of an RGB image that is stretched onto its grid, whatever that does to its
    aspect ratio; row by row, thumbnail last; bicubic."""
    canvas = _resized(image, grid.cols * side, grid.rows * side)
    tiles = canvas.reshape(grid.rows, side, grid.cols, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    if grid.thumbnail:
        tiles = np.concatenate([tiles, _resized(image, side, side)[None]])
    return np.ascontiguousarray(tiles)


def _resized(image: Image.Image, width: int, height: int) -> np.ndarray:
    if image.mode != "RGB":
        raise ValueError(
            f"tiles are cut from RGB images, got {image.mode}; open them with stages.images.rules.open_rgb"
        )
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
