"""Whether two files show the same picture, told from their pixels: where signatures can't see a changed digit.

Both are decoded to luminance at the smaller one's size, at most 768 pixels a side, and laid over each other
(image_align.py), coarse to fine. What is left over is then looked at in windows of 8 x 8 pixels. A re-encoding, a
resize or a crop leaves a little wherever there is detail, so the pair tells its own noise: a part of the detail (three
quarters of the windows with detail have less) and a ground (of 95 % of those without). A changed digit or bar stands
out against that. The distance is the worst window's left-over in units of that noise: about 1 for a re-encoded copy, 4
and more for a changed digit where the rest is untouched, less where the noise is large or the digit small.

The mean of so small a window does not count there, since a change of light moves colours apart that are cut off; it
counts, channel by channel, in patches of a twelfth of the longer side: a bar of another colour is another chart.

A small picture, of less than 128 pixels a side, has too few windows to tell its noise by, and shows all that it has at
32 x 32: there the largest difference of luminance counts, and colours in patches of 16 pixels, as JPEG blurs them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from schemas.sample import GREY_SIDE
from stages.filters import image_align
from stages.images.rules import open_scaled

Array = np.ndarray

_SIDE = 768
_WINDOW = 8
_COARSE = (32, 64, 128, 256)
_ENOUGH = 200  # windows with detail, below which a drawn picture's crop can't be told from another: one shape on plain
_DETAIL, _PLAIN, _FLOOR = 400.0, 100.0, 4.0  # squared levels
_PATCHES, _RECOLOURED, _GREY = 96, 8.0, 5  # side in pixels of what is compared for colour; levels; levels
_SMALL, _LEVELS = 128, 7.2  # pixels; levels at 32 x 32, so that a leeway of 2.5 allows 18
_MOST, _LOUDEST = 0.06, 100.0  # more than this part of the detail, or this ground, is no noise: another text


def distance(left: bytes, right: bytes) -> float:
    """How far apart two images' pictures are, in units of the noise between them; the same when swapped.

    Raises BadImage for what is no image.
    """
    return distance_of(opened(left), opened(right))


def opened(data: bytes) -> Image.Image:
    """A file as `distance_of` takes it. Raises BadImage."""
    return open_scaled(data, _SIDE)


def distance_of(left: Image.Image, right: Image.Image, spot: float = 0) -> float:
    """`distance` of two RGB pictures, each `opened` once for many comparisons.

    `spot`: the share of the picture that may differ altogether: a mark in a corner of a photograph.
    """
    size = _common_size(left, right)
    colours = sorted((left, right), key=lambda image: (_cut_off(image), image.size, image.tobytes()))
    a, b = (image.convert("L") for image in colours)
    if min(size) < _SMALL:
        patches = _scaled(size, max(size) // 2)
        return round(max(_levels(a, b), _recoloured(colours[0], colours[1], patches, image_align.start(1), spot)), 3)
    here, there = _at(a, size), _at(b, size)
    fit = image_align.start(1)
    if spot or _details(here[0]) >= _ENOUGH:
        for small in (_scaled(size, side) for side in _COARSE if side < max(size)):
            fit = image_align.fitted(_at(a, small), _at(b, small), fit, 4)
        fit = image_align.fitted(here, there, fit, 1)
    if not image_align.is_crop(fit).all():
        return float("inf")
    rest, inside = image_align.left_over(here, there, fit)
    shown = image_align.lit(here, fit)
    worst = _worst(image_align.softened(rest)[0], np.stack([shown[0], there[0]]), inside[0], spot)
    return round(
        max(worst, _recoloured(colours[0], colours[1], _scaled(size, _PATCHES), fit, spot)), 3
    )  # beyond, machines differ


def _levels(a: Image.Image, b: Image.Image) -> float:
    """The largest difference of what their hashes are taken of, in units of _LEVELS."""
    reduced = (image.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS) for image in (a, b))
    one, other = (np.asarray(image, np.int16) for image in reduced)
    return float(np.abs(one - other).max()) / _LEVELS


def _details(shown: Array) -> int:
    """How many windows have detail."""
    return int((_variance(shown) > _DETAIL).sum())


def _recoloured(a: Image.Image, b: Image.Image, size: tuple[int, int], fit: image_align.Fit, spot: float) -> float:
    """How far the mean of a channel is apart in some patch, in units of _RECOLOURED levels; that of luminance where one
    of the two is grey."""
    mode = "L" if _is_grey(a) or _is_grey(b) else "RGB"
    channels = zip(a.convert(mode).split(), b.convert(mode).split(), strict=True)
    apart = [image_align.left_over(_at(one, size), _at(other, size), fit) for one, other in channels]
    means = [np.abs(_windows(rest[0]))[_windows(inside[0]) > 1 - 1e-6] for rest, inside in apart]
    return max(_most(mean, spot) for mean in means) / _RECOLOURED


def _is_grey(image: Image.Image) -> bool:
    small = np.asarray(image.resize((32, 32), Image.Resampling.BOX), np.int16)
    return bool((small.max(2) - small.min(2)).max() < _GREY)


def _worst(rest: Array, shown: Array, inside: Array, spot: float) -> float:
    whole = _windows(inside) > 1 - 1e-6
    if not whole.any():
        return float("inf")
    left = _variance(rest)[whole]
    detail = np.maximum(*(_variance(picture)[whole] for picture in shown))
    part = min(_share(left[detail > _DETAIL] / detail[detail > _DETAIL], 75), _MOST)
    ground = min(_share(left[detail < _PLAIN], 95), _LOUDEST)
    return _most(np.sqrt(left / (part * detail + ground + _FLOOR)), spot)


def _most(values: Array, spot: float) -> float:
    """The largest but for a share of them."""
    return float(np.quantile(values, 1 - spot, method="lower")) if values.size else 0.0


def _share(values: Array, percent: int) -> float:
    return float(np.percentile(values, percent)) if len(values) > _WINDOW else 0.0


def _common_size(left: Image.Image, right: Image.Image) -> tuple[int, int]:
    width, height = min(left.width, right.width), min(left.height, right.height)
    return _scaled((width, height), min(_SIDE, max(width, height)))


def _scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """With the longer side so long, and none shorter than a window."""
    return max(_WINDOW, round(size[0] * side / max(size))), max(_WINDOW, round(size[1] * side / max(size)))


def _cut_off(image: Image.Image) -> float:
    """The share of pixels at black or white: from the picture with fewer, the other can be foretold."""
    counts = image.convert("L").histogram()
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
