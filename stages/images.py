"""Every image rule in one place: what is accepted, how it is described, how it becomes RGB.

Rules, each with a test on a real file of its kind:
  content   sniffed from the bytes, never from the name; formats outside FORMATS are `image_unreadable`
  whole     decoded once at ingest (scaled for JPEG): cut data is `image_truncated`, never half a picture
  size      above `max_pixels` (from the header, before decoding) it is `image_too_large`
  EXIF      width, height, hash and RGB are those of the upright image
  alpha     composited on white, palette transparency included
  16 bit    scaled to 8 bits, not clipped
  CMYK      converted by Pillow (Adobe's inverted files are inverted by its decoder)
  animation the first frame, `frames` says how many there are
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from schemas.sample import GREY_SIDE

# MPO (stereo photographs) is opened as the JPEG it begins with.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

# Pillow's own bomb limit warns before our cap is asked; text chunks over 1 MiB (screenshots with embedded metadata) are
# legal and met in FineVision. 64 MiB still bounds what a hostile zTXt chunk can inflate to.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 64 * 1024 * 1024

_ORIENTATION = 0x0112
_PHASH_DRAFT = 64


class BadImage(ValueError):
    """An image that can't become part of a sample. `reason` is one of REASONS, `detail` says what was seen."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


REASONS = {
    "image_missing": "the row refers to an image that isn't there",
    "image_ambiguous": "several places have a file of that name, with different content",
    "image_not_fetched": "the image's address gave no image; the detail says why",
    "image_unreadable": "the bytes are not an image of a known format",
    "image_truncated": "the image data ends early or is damaged",
    "image_too_large": "more pixels than max_pixels",
}


@dataclass(frozen=True)
class ImageInfo:
    """One image as SAMPLE.image_info has it; width and height are upright."""

    sha256: str
    width: int
    height: int
    format: str
    mode: str
    orientation: int
    frames: int
    phash: int
    grey: bytes


_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def sniff(data: bytes) -> bool:
    """Whether bytes begin like an image of FORMATS: tells a picture from an error page, proves nothing more."""
    webp, ppm = data[:4] == b"RIFF" and data[8:12] == b"WEBP", data[:1] == b"P" and data[1:2] in b"123456"
    return data.startswith(_MAGIC) or webp or (ppm and data[2:3].isspace())


def inspect(data: bytes, max_pixels: int) -> ImageInfo:
    """Prove that an image is whole, and describe it. Raises BadImage."""
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage("image_too_large", f"{width} x {height} = {width * height:,} pixels, at most {max_pixels:,}")
    mode, frames = image.mode, _frames(image)
    orientation = _orientation(image)
    left = _left_to_turn(image, orientation)
    image.draft("L", (_PHASH_DRAFT, _PHASH_DRAFT))
    grey = _grey(_upright(_load(image), left))
    if left >= 5:
        width, height = height, width
    digest = hashlib.sha256(data).hexdigest()
    return ImageInfo(
        digest, width, height, str(image.format), mode, orientation, frames, _phash(grey), np.asarray(grey).tobytes()
    )


def open_rgb(data: bytes) -> Image.Image:
    """The upright RGB image: what is tiled for training and inference. Raises BadImage."""
    image = _open(data)
    left = _left_to_turn(image, _orientation(image))
    return _upright(_flat(_load(image)), left)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise BadImage("image_unreadable", "empty: 0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of oddities (corrupt EXIF); load() below is the judge
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage("image_unreadable", f"not an image; it begins with {data[:16]!r}") from None
    except _DECODE_ERRORS as error:
        raise BadImage("image_unreadable", f"{type(error).__name__}: {error}") from None


# What Pillow's decoders raise on damaged input (seen on its own broken test files); anything else is a bug.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
)


def _load(image: Image.Image) -> Image.Image:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on: cut images would pass as whole; switch it off")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except _DECODE_ERRORS as error:
        raise BadImage("image_truncated", f"{image.format}: {type(error).__name__}: {error}") from None
    return image


def _frames(image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return int(getattr(image, "n_frames", 1))
    except _DECODE_ERRORS as error:  # counting walks through the whole file
        raise BadImage("image_truncated", f"{image.format}: {type(error).__name__}: {error}") from None


def _orientation(image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = image.getexif().get(_ORIENTATION, 1)
    except _DECODE_ERRORS:
        return 1  # unreadable metadata does not make the picture unreadable; viewers show it as stored
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _left_to_turn(image: Image.Image, orientation: int) -> int:
    """What is left to do after decoding: Pillow's TIFF decoder turns the picture itself, its size included."""
    return 1 if image.format == "TIFF" else orientation


_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSE[orientation]) if orientation > 1 else image


def _flat(image: Image.Image) -> Image.Image:
    """RGB without alpha (composited on white) and without clipping 16-bit data."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _eight_bit(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey / 257; 32-bit and float modes carry no stated range and are stretched from 0 to their maximum."""
    values = np.asarray(image, dtype=np.float64)
    top = 65535.0 if image.mode.startswith("I;16") else max(float(values.max(initial=0)), 255.0)
    return Image.fromarray(np.clip(values * (255.0 / top), 0, 255).round().astype(np.uint8))


def _grey(image: Image.Image) -> Image.Image:
    """The 32 x 32 luminance that imagehash.phash takes its DCT of."""
    if image.mode != "L":
        image = _flat(image).convert("L")
    return image.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS)


def _phash(grey: Image.Image) -> int:
    import imagehash  # pulls in scipy: kept out of the trainer, which only opens images

    bits = imagehash.phash(grey).hash.flatten()
    return int(np.packbits(bits).view(">u8")[0])
