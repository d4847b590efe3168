"""What a picture is compared by: the hash of its file, a perceptual hash, its luminance at 32 x 32, and its detail.

sha256  the same file
phash   `imagehash.phash`, 64 bits: the signs of low frequencies around their median. Near for pictures that look alike,
        and for charts that differ in their numbers alone
grey    the 32 x 32 luminance that phash is taken of, reduced as imagehash reduces it
detail  22 x 22 sums, each of a cell's pixels with weights that add up to nothing. A cell of one colour gives 0; a cell
        that nobody touched gives the same number in two files of one template, and one changed digit another. That
        needs a picture of 192 pixels a side or more, where digits are still to be seen
plain   how many of 255 parts of the picture lie within two levels of its most frequent luminance: paper, the ground of
        a chart or a window. Photographs stay below 51 (a fifth), drawn pictures lie above
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image

from schemas.sample import DETAIL_SIDE, GREY_SIDE

DRAFT_SIDE = 192  # what a JPEG is decoded at, at least


class Look(NamedTuple):
    """What SAMPLE.image_info keeps of a picture's pixels."""

    phash: int
    grey: bytes
    detail: bytes
    plain: int


def sha256(data: bytes) -> str:
    """The hash of a file, in hex."""
    return hashlib.sha256(data).hexdigest()


def look(luminance: Image.Image, scaled: bool) -> Look:
    """An upright picture in mode L; `scaled`: it was decoded at a part of its size, and a faster reduction will do."""
    gap = 2.0 if scaled else None
    grey = luminance.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS, reducing_gap=gap)
    fine = luminance.reduce(max(1, min(luminance.size) // DRAFT_SIDE))
    return Look(phash(grey), grey.tobytes(), detail(fine).tobytes(), plain(fine))


def phash(grey: Image.Image) -> int:
    """The perceptual hash of a 32 x 32 picture; its first bit (the mean) is the highest."""
    import imagehash  # brings scipy; the trainer, which only opens pictures, has neither

    return int.from_bytes(np.packbits(imagehash.phash(grey).hash).tobytes(), "big")


def detail(fine: Image.Image) -> np.ndarray:
    """int16 [22, 22], modulo 65,536. Each cell: signs by row and weights by column, and the other way about, so that an
    edge along either shows. Whole numbers in float32 below 2^24, so exact in any order."""
    pixels = np.asarray(fine, dtype=np.float32)
    (down, heavy_down), (along, heavy_along) = (_stripes(side) for side in pixels.shape)
    sums = (down @ pixels) @ heavy_along.T + heavy_down @ (pixels @ along.T)
    return np.asarray(sums.astype(np.int64).astype("<i2"))


def plain(fine: Image.Image) -> int:
    """255 x the share of the fullest five neighbouring luminances."""
    full = np.convolve(np.array(fine.histogram()), np.ones(5, np.int64), "same").max()
    return int(full) * 255 // (fine.width * fine.height)


@functools.lru_cache(maxsize=256)
def _stripes(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Two float32 [22, side]: in each row, for the pixels of one stripe, as many 1 as -1, and weights of 1 to 3."""
    signs, weights = np.zeros((2, DETAIL_SIDE, side), np.float32)
    edges = np.arange(DETAIL_SIDE + 1) * side // DETAIL_SIDE
    dice = np.frombuffer(hashlib.shake_128(b"%d" % side).digest(4 * side), "<u4")  # the same in every version of NumPy
    for row, (start, end) in enumerate(itertools.pairwise(edges)):
        half = (end - start) // 2
        shuffled = np.argsort(dice[start:end], kind="stable")
        signs[row, start:end] = np.repeat([1, -1, 0], [half, half, (end - start) % 2])[shuffled]
        weights[row, start:end] = dice[start:end] % 3 + 1
    return signs, weights
