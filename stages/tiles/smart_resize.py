"""The size that an image is resized to, both sides multiples of a factor and its pixels within bounds.

Both sides are rounded to multiples of `factor`, half to even; what has too many pixels then is shrunk and what has too
few is enlarged, by one number for both sides, again to multiples. Images with one side more than 200 times as long as
the other have none.

Source of the algorithm: QwenLM/Qwen3-VL, qwen-vl-utils (smart_resize), as in transformers' processor of Qwen2-VL.
"""

from __future__ import annotations

import math

import numpy as np

from stages.tiles.scheme import NoGrid, Size

RATIO = 200


def smart_resize(width: int, height: int, factor: int, pixels: tuple[int, int]) -> Size:
    """(width, height); `pixels`: the least and the most there may be. Raises NoGrid."""
    if max(width, height) / min(width, height) > RATIO:
        raise NoGrid(f"{width} x {height} pixels: one side is more than {RATIO} times as long as the other")
    least, most = pixels
    across, down = round(width / factor), round(height / factor)
    if across * down * factor**2 > most:
        shrink = math.sqrt(height * width / most)
        across = max(1, math.floor(width / shrink / factor))
        down = max(1, math.floor(height / shrink / factor))
    elif across * down * factor**2 < least:
        enlarge = math.sqrt(least / (height * width))
        across, down = math.ceil(width * enlarge / factor), math.ceil(height * enlarge / factor)
    return across * factor, down * factor


def all_smart_resize(
    widths: np.ndarray, heights: np.ndarray, factor: int, pixels: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(widths, heights) of arrays of sizes; 0 where `smart_resize` refuses."""
    least, most = pixels
    area, cells = widths * heights, np.rint(widths / factor) * np.rint(heights / factor) * factor**2
    shrink, enlarge = np.sqrt(area / most), np.sqrt(least / area)
    refused = np.maximum(widths, heights) / np.minimum(widths, heights) > RATIO
    found = []
    for side in (widths, heights):
        times = np.rint(side / factor)
        times = np.where(cells < least, np.ceil(side * enlarge / factor), times)
        times = np.where(cells > most, np.maximum(1, np.floor(side / shrink / factor)), times)
        found.append(np.where(refused, 0, times * factor).astype(np.int64))
    return found[0], found[1]


def check_pixels(pixels: tuple[int, int]) -> None:
    """Raise ValueError unless they are bounds."""
    if not 1 <= pixels[0] <= pixels[1]:
        raise ValueError(f"pixels: got {list(pixels)}, wanted the least and the most, at least 1")
