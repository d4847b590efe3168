"""Crops of an image by its grid, as schemes share them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stages.tiles.scheme import Grid


def stretched(image: Image.Image, grid: Grid, side: int) -> np.ndarray:
    """uint8 [num_tiles, side, side, 3] of an RGB image that is stretched onto its grid, whatever that does to its
    aspect ratio; row by row, thumbnail last; bicubic."""
    tiles = cells(resized(image, grid.cols * side, grid.rows * side), side)
    if grid.thumbnail:
        tiles = np.concatenate([tiles, resized(image, side, side)[None]])
    return np.ascontiguousarray(tiles)


def cells(canvas: np.ndarray, side: int) -> np.ndarray:
    """[rows * side, cols * side, 3] -> [rows * cols, side, side, 3], row by row."""
    rows, cols = canvas.shape[0] // side, canvas.shape[1] // side
    return canvas.reshape(rows, side, cols, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)


def resized(image: Image.Image, width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3] of an RGB image; bicubic."""
    return np.asarray(rgb(image).resize((width, height), Image.Resampling.BICUBIC))


def rgb(image: Image.Image) -> Image.Image:
    """The image itself. Raises ValueError unless it is RGB."""
    if image.mode != "RGB":
        raise ValueError(
            f"tiles are cut from RGB images, got {image.mode}; open them with stages.images.rules.open_rgb"
        )
    return image
