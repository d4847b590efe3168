"""What a picture is compared by: the hash of its file, a perceptual hash, its luminance at 32 x 32, and its detail.

sha256  the same file
phash   `imagehash.phash`, 64 bits: the signs of low frequencies around their median. Near for pictures that look alike,
        and for charts that differ in their numbers alone
grey    the 32 x 32 luminance that phash is taken of, reduced as imagehash reduces it
plain   how many of 255 parts of the picture lie within two levels of its most frequent luminance: paper, the ground of
        a chart or a window. Photographs stay below 51 (a fifth), drawn pictures lie above
detail  of drawn pictures, 22 x 22 sums, each of a cell's pixels with signs of chance. A cell of one colour gives 0; a
        cell that nobody touched gives the same number in two files of one template, and one changed digit another.
        That needs a picture of 192 pixels a side or more, where digits are still to be seen. Others have zeros

A JPEG is decoded at 64 pixels a side or more, and a drawn one once more for its detail.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from schemas.sample import DETAIL_SIDE, GREY_SIDE

DRAWN = 51
DRAFT_SIDE, FINE_SIDE = 64, 192  # what a JPEG is decoded at, at least; what detail is taken of


class Look(NamedTuple):
    """What SAMPLE.image_info keeps of a picture's pixels."""

    phash: int
    grey: bytes
    detail: bytes
    plain: int


def sha256(data: bytes) -> str:
    """The hash of a file, in hex."""
    return hashlib.sha256(data).hexdigest()


def look(luminance: Image.Image, scaled: bool, fine: Callable[[], Image.Image]) -> Look:
    """An upright picture in mode L; `scaled`: it was decoded at a part of its size, and a faster reduction will do.

    `fine`: the same picture decoded at FINE_SIDE or more."""
    gap = 2.0 if scaled else None
    grey = luminance.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS, reducing_gap=gap)
    share = plain(_reduced(luminance, DRAFT_SIDE))
    sums = detail(_reduced(fine(), FINE_SIDE)).tobytes() if share >= DRAWN else bytes(2 * DETAIL_SIDE**2)
    return Look(phash(grey), grey.tobytes(), sums, share)


def _reduced(image: Image.Image, side: int) -> Image.Image:
    """As a JPEG's decoder reduces: by 1, 2, 4 or 8, at most so many times; beyond, by more."""
    times = min(image.size) // side
    return image.reduce(times if times > 8 else 1 << max(times.bit_length() - 1, 0))


def phash(grey: Image.Image) -> int:
    """The perceptual hash of a 32 x 32 picture; its first bit (the mean) is the highest."""
    import imagehash  # brings scipy; the trainer, which only opens pictures, has neither

    return int.from_bytes(np.packbits(imagehash.phash(grey).hash).tobytes(), "big")


def detail(fine: Image.Image) -> np.ndarray:
    """int16 [22, 22], modulo 65,536: of each cell, its pixels less the first one of it, with signs of chance, summed.

    In int16 throughout; a matrix product would wake a thread on every core.
    """
    pixels = np.asarray(fine)
    signs, total, rows, columns = _signs(*pixels.shape)
    sums = np.add.reduceat(np.add.reduceat(pixels * signs, columns, axis=1), rows, axis=0)  # columns first: faster
    return np.asarray((sums - total * pixels[rows][:, columns]).astype("<i2"))


def plain(fine: Image.Image) -> int:
    """255 x the share of the fullest five neighbouring luminances."""
    below = np.cumsum([0, *fine.histogram()])
    return int((below[5:] - below[:-5]).max()) * 255 // (fine.width * fine.height)


@functools.lru_cache(maxsize=64)
def _signs(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """int16 [height, width] of 1 and -1; their sums in each cell; the cells' first rows and columns."""
    signs = np.take(np.take(_field(), np.arange(height), 0, mode="wrap"), np.arange(width), 1, mode="wrap")
    rows, columns = (np.arange(DETAIL_SIDE) * side // DETAIL_SIDE for side in (height, width))
    return signs, np.add.reduceat(np.add.reduceat(signs, rows, axis=0), columns, axis=1), rows, columns


@functools.cache
def _field() -> np.ndarray:
    """int16 [512, 512] of 1 and -1, the same with every version of everything."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_128(b"detail").digest(1 << 15), np.uint8))
    return np.asarray(bits.reshape(512, 512).astype(np.int16) * 2 - 1)
