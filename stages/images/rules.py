"""Every rule of images in one place: what is accepted, how it is turned upright, how it becomes RGB.

Rules, each with a test on a real file of its kind:
  content   sniffed from the bytes, never from the name; formats outside FORMATS are `image_unreadable`
  whole     decoded once at ingest (scaled for JPEG), its structure walked (structure.py): cut or damaged data is
            `image_truncated`, never half a picture. Bytes after the end mark don't count. Not decoded are later frames,
            a TIFF's later pages and an MPO's later pictures; not detectable is damage that a decoder can't see (bits
            flipped in a JPEG, BMP, PPM, AVIF, JPEG 2000 or fax-coded TIFF)
  size      above `max_pixels` (from the header, before decoding) it is `image_too_large`; a TIFF's tile counts too, and
            a JPEG of more scans than anyone writes
  EXIF      width, height, hash and RGB are those of the upright image; where EXIF says nothing, XMP may, as in Pillow
  alpha     composited on white, palette transparency included
  16 bit    scaled to 8 bits, not clipped
  32 bit    integers and floats carry no stated range: 0 is black; white is 1 for floats up to 1, else the largest value
            (at least 255); what is no number is black
  CMYK      converted by Pillow (Adobe's inverted files are inverted by its decoder); colour profiles are not applied
  animation the first frame, `frames` says how many there are
  memory    beside the decoded picture, its grey or RGB form and a band of pixels
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import AvifImagePlugin, Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from stages.images import hashes
from stages.images.boxes import Damage, is_avif, is_jpeg2000
from stages.images.structure import MAX_SCANS, scans, survey

# MPO (stereo photographs) is opened as the JPEG it begins with.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

# Pillow's own bomb limit warns before our cap is asked; text chunks over 1 MiB (screenshots with embedded metadata) are
# legal and met in FineVision. 64 MiB still bounds what a hostile zTXt chunk can inflate to.
Image.MAX_IMAGE_PIXELS = None
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 64 * 1024 * 1024
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a worker has one core

_ORIENTATION = 0x0112
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_BAND_PIXELS = 1 << 22


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
    "image_too_large": "more pixels than max_pixels, more bytes than max_image_bytes, or as much work",
}


@dataclass(frozen=True)
class ImageInfo:
    """One image as SAMPLE.image_info has it; width and height are upright."""

    sha256: str
    size: int
    width: int
    height: int
    format: str
    mode: str
    orientation: int
    frames: int
    phash: int
    grey: bytes
    detail: bytes
    plain: int


Data = bytes | memoryview
"""An encoded image: bytes, or where they lie."""

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def sniff(data: bytes) -> bool:
    """Whether bytes begin like an image of FORMATS: tells a picture from an error page, proves nothing more."""
    webp, ppm = data[:4] == b"RIFF" and data[8:12] == b"WEBP", data[:1] == b"P" and data[1:2] in b"123456"
    return data.startswith(_MAGIC) or webp or (ppm and data[2:3].isspace()) or is_avif(data) or is_jpeg2000(data)


def inspect(data: bytes, max_pixels: int) -> ImageInfo:
    """Prove that an image is whole, and describe it. Raises BadImage."""
    image, frames = _unproven(data, max_pixels)
    mode, frames = image.mode, frames or _frames(image)
    orientation = _orientation(image)
    left, (width, height) = _left_to_turn(image, orientation), _upright_size(image)
    image.draft("L", (hashes.DRAFT_SIDE, hashes.DRAFT_SIDE))
    scaled = image.size not in ((width, height), (height, width))
    luminance = _upright(_flat(_load(image), "L"), left)

    def fine() -> Image.Image:
        return _decoded(data, "L", shorter=hashes.FINE_SIDE) if scaled else luminance

    return ImageInfo(
        hashes.sha256(data),
        len(data),
        width,
        height,
        str(image.format),
        mode,
        orientation,
        frames,
        *hashes.look(luminance, scaled, fine),
    )


def measure(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Width and height of the upright image by what its header says: no pixel is decoded, and damage in the picture
    is not seen. Raises BadImage."""
    return _upright_size(_unproven(data, max_pixels)[0])


def _unproven(data: bytes, max_pixels: int) -> tuple[Image.Image, int | None]:
    """An image of a size that is allowed, opened and not decoded, and its frames where its structure says them."""
    try:
        frames, canvas = survey(data)
    except Damage as damage:
        raise BadImage("image_truncated", str(damage)) from None
    if canvas:
        _check_size(*canvas, max_pixels)  # opening a GIF makes room for its canvas
    image = _open(data)
    _check_size(*image.size, max_pixels)
    _check_work(image, data, max_pixels)
    return image, frames


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Before the picture is decoded, which may be at another scale."""
    width, height = image.size
    return (height, width) if _left_to_turn(image, _orientation(image)) >= 5 else (width, height)


def open_rgb(data: Data) -> Image.Image:
    """The upright RGB image: what is tiled for training and inference. Raises BadImage."""
    return _decoded(data, "RGB")


def open_scaled(data: Data, side: int) -> Image.Image:
    """The upright RGB image, of a JPEG perhaps a part of its size, its longer side `side` or more. Raises BadImage."""
    return _decoded(data, "RGB", longer=side)


def _decoded(data: Data, mode: str, shorter: int | None = None, longer: int | None = None) -> Image.Image:
    """`shorter`, `longer`: that side of a JPEG is decoded at so many pixels or more."""
    image = _open(data)
    left = _left_to_turn(image, _orientation(image))
    if side := shorter or (longer and longer * min(image.size) // max(image.size)):
        image.draft(mode, (side, side))
    return _upright(_flat(_load(image), mode), left)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage("image_too_large", f"{width} x {height} = {width * height:,} pixels, at most {max_pixels:,}")


def _check_work(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """What makes a small picture as much work as a huge one."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        width, height = tags.get(_TILE_WIDTH), tags.get(_TILE_LENGTH)
        if isinstance(width, int) and isinstance(height, int):
            _check_size(width, height, max_pixels)
    if image.info.get("progressive") and (found := scans(data)) > MAX_SCANS:
        raise BadImage("image_too_large", f"a JPEG of {found:,} scans, at most {MAX_SCANS}")


def _open(data: Data) -> Image.Image:
    if not data:
        raise BadImage("image_unreadable", "empty: 0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of oddities (corrupt EXIF); load() below is the judge
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage("image_unreadable", _unreadable(bytes(data))) from None
    except _DECODE_ERRORS as error:
        raise BadImage("image_unreadable", f"{type(error).__name__}: {error}") from None


_OTHER_FORMATS = (
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"<svg", "SVG"),
)


def _unreadable(data: bytes) -> str:
    for at, magic, name in _OTHER_FORMATS:
        if data.startswith(magic, at):
            return f"a picture in {name}, which is not read here; convert it to one of {', '.join(FORMATS)}"
    if sniff(data):
        return f"begins like an image, but its header is damaged or of no known kind; it begins with {data[:16]!r}"
    return f"not an image; it begins with {data[:16]!r}"


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
    RuntimeError,
    struct.error,
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


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """RGB or L without alpha (composited on white) and without clipping deep data; band by band, to bound memory."""
    if image.mode == mode and not image.has_transparency_data:
        return image
    deep = image.mode.startswith("I;16") or image.mode in ("I", "F")
    top = _white(image) if deep else 0
    flat = Image.new(mode, image.size)
    for box, band in _bands(image):
        flat.paste((_eight_bit(band, top) if deep else _opaque(band)).convert(mode), box)
    return flat


def _bands(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    """The picture in bands of whole rows; a small one is one band, uncopied."""
    width, height = image.size
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        yield box, image if rows >= height else image.crop(box)


def _opaque(image: Image.Image) -> Image.Image:
    """RGB, alpha composited on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    # Pillow knows no way from premultiplied grey to RGBA but this
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _white(image: Image.Image) -> float:
    """The value that becomes white."""
    if image.mode.startswith("I;16"):
        return 65535.0
    largest = max(float(_values(band).max(initial=0)) for _, band in _bands(image))
    return 1.0 if image.mode == "F" and largest <= 1 else max(largest, 255.0)


def _values(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _eight_bit(image: Image.Image, white: float) -> Image.Image:
    return Image.fromarray(np.clip(_values(image) * (255.0 / white), 0, 255).round().astype(np.uint8))
