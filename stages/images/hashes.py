"""What a picture is compared by: the hash of its file, its luminance at 32 x 32, and the perceptual hash of that.

sha256  the same file
phash   `imagehash.phash`, 64 bits: the signs of low frequencies around their median. Near for pictures that look alike,
        and for charts that differ in their numbers alone
grey    the picture that phash is taken of, reduced as imagehash reduces it. Kept, because it tells those charts apart
"""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from schemas.sample import GREY_SIDE


def sha256(data: bytes) -> str:
    """The hash of a file, in hex."""
    return hashlib.sha256(data).hexdigest()


def grey(luminance: Image.Image) -> Image.Image:
    """An upright picture in mode L, reduced to 32 x 32."""
    return luminance.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS)


def phash(grey: Image.Image) -> int:
    """The perceptual hash of a 32 x 32 picture; its first bit (the mean) is the highest."""
    import imagehash  # brings scipy; the trainer, which only opens pictures, has neither

    return int.from_bytes(np.packbits(imagehash.phash(grey).hash).tobytes(), "big")
