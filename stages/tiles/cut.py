"""Crops of an image by its grid, as schemes share them: each pixel is resized once and copied once, into its tile."""

from __future__ import annotations

import numpy as np
from PIL import Image

from stages.tiles.scheme import Grid


def stretch(tiles: np.ndarray, image: Image.Image, grid: Grid) -> None:
    """Fill the tiles of an RGB image that is stretched onto its grid, whatever that does to its aspect ratio; row by
    row, thumbnail last; bicubic."""
    side = tiles.shape[1]
    place(tiles[: grid.rows * grid.cols], resized(image, grid.cols * side, grid.rows * side))
    if grid.thumbnail:
        tiles[-1] = resized(image, side, side)


def place(tiles: np.ndarray, canvas: np.ndarray) -> None:
    """Fill tiles from the canvas that they are of, row by row."""
    side = tiles.shape[1]
    rows, cols = canvas.shape[0] // side, canvas.shape[1] // side
    tiles.reshape(rows, cols, side, side, 3)[:] = canvas.reshape(rows, side, cols, side, 3).swapaxes(1, 2)


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
