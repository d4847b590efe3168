"""Whether two files show the same picture, told from their pixels: where signatures can't see a changed digit.

Both are decoded to luminance at the smaller one's size, at most 768 pixels a side, and laid over each other
(image_align.py), coarse to fine. What is left over is then looked at in windows of 8 x 8 pixels. A re-encoding, a
resize or a crop leaves a little wherever there is detail, so the pair tells its own noise: a part of the detail (three
quarters of the windows with detail have less) and a ground (of 95 % of those without). A changed digit or bar stands
out against that. The distance is the worst window's left-over in units of that noise: about 1 for a re-encoded copy, 4
and more for a changed digit where the rest is untouched, less where the noise is large or the digit small.

The mean of so small a window does not count there, since a change of light moves colours apart that are cut off; it
counts, channel by channel, in patches of a twelfth of the longer side: a bar of another colour is another chart.

Most copies are neither cropped nor of another light. So both are first laid over each other as they are, at 384
pixels; where next to nothing is left over then, that is the answer, at a twentieth of the cost.

A small picture, of less than 128 pixels a side, has too few windows to tell its noise by, and shows all that it has at
32 x 32: there the largest difference of luminance counts, and colours in patches of 16 pixels, as JPEG blurs them.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from schemas.sample import GREY_SIDE
from stages.filters import image_align
from stages.images.hashes import DRAWN, plain
from stages.images.rules import open_scaled

Array = np.ndarray

_SIDE, _HALF = 768, 384
_CLEAR = 1.5  # as they lie, at _HALF: the same picture, without a closer look
_WINDOW, _RIM = 8, 4
_COARSE = (32, 64, 128, 256)
_ENOUGH = 200  # windows with detail, below which a drawn picture's crop can't be told from another: one shape on plain
_DETAIL, _PLAIN, _FLOOR = 400.0, 100.0, 4.0  # squared levels
_PATCHES, _RECOLOURED, _GREY = 96, 8.0, 5  # side in pixels of what is compared for colour; levels; levels
_SMALL, _LEVELS = 128, 7.2  # pixels; levels at 32 x 32, so that a leeway of 2.5 allows 18
_MOST, _LOUDEST = 0.06, 100.0  # more than this part of the detail, or this ground, is no noise: another text


class Opened:
    """A file, decoded when it is needed and once for many comparisons: RGB of 384 and of 768 or more pixels a side."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @functools.cached_property
    def small(self) -> Image.Image:
        """Raises BadImage."""
        image = open_scaled(self._data, _HALF)
        size = _common_size(image, image, _HALF)
        return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)

    @functools.cached_property
    def plain(self) -> int:
        """As in stages/images/hashes.py."""
        return plain(self.small.convert("L"))

    @functools.cached_property
    def large(self) -> Image.Image:
        """Raises BadImage."""
        return open_scaled(self._data, _SIDE)


def distance(left: bytes, right: bytes) -> float:
    """How far apart two images' pictures are, in units of the noise between them; the same when swapped.

    Raises BadImage for what is no image.
    """
    return distance_of(Opened(left), Opened(right))


def distance_of(left: Opened, right: Opened, mark: float = 0) -> float:
    """`distance` of two files that may be compared with others, too.

    `mark`: the share of a photograph that may differ altogether, as where it got a mark in a corner.
    """
    if drawn := min(left.plain, right.plain) >= DRAWN:
        mark = 0
    still = _still(left.small, right.small, mark)
    return still if still <= _CLEAR else _moved(left.large, right.large, mark, drawn)


def _still(left: Image.Image, right: Image.Image, mark: float) -> float:
    """As they lie."""
    size = _common_size(left, right, _HALF)
    colours = _ordered(left, right)
    fit = image_align.start(1)
    if min(size) < _SMALL:
        patches = _scaled(size, max(size) // 2)
        return round(max(_levels(*colours), _recoloured(*colours, patches, fit, mark)), 3)
    here, there = (_at(image.convert("L"), size) for image in colours)
    worst = _worst((there - here)[0], np.stack([here[0], there[0]]), np.ones(here.shape[1:], bool), mark)
    return round(max(worst, _recoloured(*colours, _scaled(size, _PATCHES), fit, mark)), 3)  # beyond, machines differ


def _moved(left: Image.Image, right: Image.Image, mark: float, drawn: bool) -> float:
    """After the crop and the light between them."""
    size = _common_size(left, right, _SIDE)
    if min(size) < _SMALL:
        return _still(left, right, mark)
    a, b = _ordered(left, right)
    fit = image_align.start(1)
    if not drawn or _details(_soft(a.convert("L"), size)[0]) >= _ENOUGH:
        fit = _fitted(a.convert("L"), b.convert("L"), size)
        if not image_align.is_crop(fit).all():
            return float("inf")
        a, fit = _lit(a, fit), fit._replace(light=image_align.start(1).light)
    here, there = (_soft(image.convert("L"), size) for image in (a, b))
    rest, inside = image_align.left_over(here, there, fit)
    shown = np.stack([image_align.placed(here, fit.place)[0][0], there[0]])
    worst = _worst(image_align.softened(rest)[0], shown, _held(inside, fit, _RIM)[0], mark)
    return round(max(worst, _recoloured(a, b, _scaled(size, _PATCHES), fit, mark)), 3)


def _ordered(left: Image.Image, right: Image.Image) -> tuple[Image.Image, Image.Image]:
    """First the picture that the other can be foretold from: with fewer values at black or white."""
    one, other = sorted((left, right), key=lambda image: (_cut_off(image), image.size, image.tobytes()))
    return one, other


def _lit(image: Image.Image, fit: image_align.Fit) -> Image.Image:
    """As the fit says that it looks in the other: each channel is cut off at black and white, as where it was made."""
    gain, offset = fit.light[0].astype(np.float64)
    return image.point(np.clip(np.arange(256) * gain + offset, 0, 255).round().astype(int).tolist() * 3)


def _held(inside: Array, fit: image_align.Fit, rim: int) -> Array:
    """Without the rim where one picture was cut off: what was outside was smoothed into it."""
    if (fit.place == image_align.start(1).place).all():
        return inside
    held = np.pad(inside, ((0, 0), (rim, rim), (rim, rim)))
    for axis in (1, 2):
        held = np.minimum.reduce([np.roll(held, by, axis) for by in range(-rim, rim + 1)])
    return np.asarray(held[:, rim:-rim, rim:-rim])


def _fitted(a: Image.Image, b: Image.Image, size: tuple[int, int]) -> image_align.Fit:
    """Coarse to fine."""
    fit = image_align.start(1)
    for small in (_scaled(size, side) for side in _COARSE if side < max(size)):
        fit = image_align.fitted(_soft(a, small), _soft(b, small), fit, 4)
    return image_align.fitted(_soft(a, size), _soft(b, size), fit, 1)


def _levels(a: Image.Image, b: Image.Image) -> float:
    """The largest difference of what their hashes are taken of, in units of _LEVELS."""
    reduced = (image.convert("L").resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS) for image in (a, b))
    one, other = (np.asarray(image, np.int16) for image in reduced)
    return float(np.abs(one - other).max()) / _LEVELS


def _details(shown: Array) -> int:
    """How many windows have detail."""
    return int((_variance(shown) > _DETAIL).sum())


def _recoloured(a: Image.Image, b: Image.Image, size: tuple[int, int], fit: image_align.Fit, mark: float) -> float:
    """How far the mean of a channel is apart in some patch, in units of _RECOLOURED levels; that of luminance where one
    of the two is grey."""
    mode = "L" if _is_grey(a) or _is_grey(b) else "RGB"
    rest, inside = image_align.left_over(_soft(a.convert(mode), size), _soft(b.convert(mode), size), fit)
    whole = _windows(_held(inside[:1], fit, 1)[0]) > 1 - 1e-6
    return max(_most(np.abs(_windows(channel))[whole], mark) for channel in rest) / _RECOLOURED


def _is_grey(image: Image.Image) -> bool:
    small = np.asarray(image.resize((32, 32), Image.Resampling.BOX), np.int16)
    return bool((small.max(2) - small.min(2)).max() < _GREY)


def _worst(rest: Array, shown: Array, inside: Array, mark: float) -> float:
    whole = _windows(inside) > 1 - 1e-6
    if not whole.any():
        return float("inf")
    left = _variance(rest)[whole]
    detail = np.maximum(*(_variance(picture)[whole] for picture in shown))
    part = min(_share(left[detail > _DETAIL] / detail[detail > _DETAIL], 75), _MOST)
    ground = min(_share(left[detail < _PLAIN], 95), _LOUDEST)
    return _most(np.sqrt(left / (part * detail + ground + _FLOOR)), mark)


def _most(values: Array, mark: float) -> float:
    """The largest but for a share of them."""
    return float(np.quantile(values, 1 - mark, method="lower")) if values.size else 0.0


def _share(values: Array, percent: int) -> float:
    return float(np.percentile(values, percent)) if len(values) > _WINDOW else 0.0


def _common_size(left: Image.Image, right: Image.Image, side: int) -> tuple[int, int]:
    width, height = min(left.width, right.width), min(left.height, right.height)
    return _scaled((width, height), min(side, max(width, height)))


def _scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """With the longer side so long, and none shorter than a window."""
    return max(_WINDOW, round(size[0] * side / max(size))), max(_WINDOW, round(size[1] * side / max(size)))


def _cut_off(image: Image.Image) -> int:
    """How many values in a million lie at black or white, in all channels."""
    counts = image.histogram()
    ends = sum(sum(counts[256 * k : 256 * k + 5]) + sum(counts[256 * k + 251 : 256 * k + 256]) for k in range(3))
    return ends * 1_000_000 // (3 * image.width * image.height)


def _at(image: Image.Image, size: tuple[int, ...]) -> Array:
    """float32 [channels, height, width]."""
    pixels = np.asarray(image.resize((size[0], size[1]), Image.Resampling.BICUBIC), np.float32)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _soft(image: Image.Image, size: tuple[int, ...]) -> Array:
    return image_align.softened(_at(image, size))


def _variance(values: Array) -> Array:
    return np.asarray(np.maximum(_windows(values * values) - _windows(values) ** 2, 0))


def _windows(values: Array) -> Array:
    """The means of windows that overlap by half, of blocks of half a side."""
    half = _WINDOW // 2
    height, width = (side // half for side in values.shape)
    rows = values[: height * half, : width * half].reshape(height, half, -1).sum(1, dtype=np.float64)
    blocks = rows.reshape(height, width, half).sum(2)
    pairs = blocks[:-1] + blocks[1:]
    return np.asarray((pairs[:, :-1] + pairs[:, 1:]) / _WINDOW**2)
