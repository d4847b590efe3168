"""Whether two files show the same picture, told from their pixels: where signatures can't see a changed digit.

Both are decoded to luminance at the smaller one's size, at most 768 pixels a side, and laid over each other
(image_align.py), coarse to fine. What is left over is then looked at in windows of 8 x 8 pixels. A re-encoding, a
resize or a crop leaves a little wherever there is detail, so the pair tells its own noise: a part of the detail (three
quarters of the windows with detail have less) and a ground (of 95 % of those without). A changed digit or bar stands
out against that. The distance is the worst window's left-over in units of that noise: about 1 for a re-encoded copy, 4
and more for a changed digit where the rest is untouched, less where the noise is large or the digit small.

The window's mean does not count, so that colours which a change of light moves apart from each other don't.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from stages.filters import image_align
from stages.images.rules import open_luminance

Array = np.ndarray

SIDE = 768
_WINDOW = 8
_COARSE = (32, 64, 128, 256)
_DETAIL, _PLAIN, _FLOOR = 400.0, 100.0, 4.0  # squared levels
_MOST, _LOUDEST = 0.06, 100.0  # more than this part of the detail, or this ground, is no noise: another text


def distance(left: bytes, right: bytes) -> float:
    """How far apart two images' pictures are, in units of the noise between them; the same when swapped.

    Raises BadImage for what is no image.
    """
    return luminance_distance(open_luminance(left, SIDE), open_luminance(right, SIDE))


def luminance_distance(left: Image.Image, right: Image.Image) -> float:
    """`distance` of two pictures in mode L, decoded once for many comparisons."""
    size = _common_size(left, right)
    a, b = sorted((left, right), key=lambda image: (_cut_off(image), image.size, image.tobytes()))
    fit = image_align.start(1)
    for side in (side for side in _COARSE if side < max(size)):
        small = tuple(max(_WINDOW, round(length * side / max(size))) for length in size)
        fit = image_align.fitted(_at(a, small), _at(b, small), fit, 4)
    here, there = _at(a, size), _at(b, size)
    fit = image_align.fitted(here, there, fit, 1)
    if not image_align.is_crop(fit).all():
        return float("inf")
    rest, inside = image_align.left_over(here, there, fit)
    shown = image_align.lit(here, fit)
    return _worst(image_align.softened(rest)[0], np.stack([shown[0], there[0]]), inside[0])


def _worst(rest: Array, shown: Array, inside: Array) -> float:
    whole = _windows(inside) > 1 - 1e-6
    if not whole.any():
        return float("inf")
    left = _variance(rest)[whole]
    detail = np.maximum(*(_variance(picture)[whole] for picture in shown))
    part = min(_share(left[detail > _DETAIL] / detail[detail > _DETAIL], 75), _MOST)
    ground = min(_share(left[detail < _PLAIN], 95), _LOUDEST)
    return round(float(np.sqrt((left / (part * detail + ground + _FLOOR)).max())), 3)  # beyond, machines differ


def _share(values: Array, percent: int) -> float:
    return float(np.percentile(values, percent)) if len(values) > _WINDOW else 0.0


def _common_size(left: Image.Image, right: Image.Image) -> tuple[int, int]:
    width, height = min(left.width, right.width), min(left.height, right.height)
    scale = min(1.0, SIDE / max(width, height))
    return max(_WINDOW, round(width * scale)), max(_WINDOW, round(height * scale))


def _cut_off(image: Image.Image) -> float:
    """The share of pixels at black or white: from the picture with fewer, the other can be foretold."""
    counts = image.histogram()
    return (sum(counts[:5]) + sum(counts[251:])) / (image.width * image.height)


def _at(image: Image.Image, size: tuple[int, ...]) -> Array:
    resized = image.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    return image_align.softened(np.asarray(resized, np.float32)[None])


def _variance(values: Array) -> Array:
    wide = values.astype(np.float64)
    return np.asarray(np.maximum(_windows(wide * wide) - _windows(wide) ** 2, 0))


def _windows(values: Array) -> Array:
    """The means of windows that overlap by half."""
    total = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    total = total[:: _WINDOW // 2, :: _WINDOW // 2]
    return np.asarray((total[2:, 2:] - total[:-2, 2:] - total[2:, :-2] + total[:-2, :-2]) / _WINDOW**2)
