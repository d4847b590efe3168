"""Every rule of stages/images/rules.py on a real file of its kind, and damaged files by the hundred."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from stages.images import rules
from stages.images.rules import REASONS, BadImage, ImageInfo, inspect, measure, open_rgb
from tests.stages.pictures import encoded, photo, turned

ANY_SIZE = 10**9


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def largest_difference(left: Image.Image, right: Image.Image) -> int:
    assert left.size == right.size and left.mode == right.mode
    return int(np.abs(pixels(left) - pixels(right)).max())


def refusal(data: bytes, max_pixels: int = ANY_SIZE) -> BadImage:
    with pytest.raises(BadImage) as caught:
        inspect(data, max_pixels)
    assert caught.value.reason in REASONS
    return caught.value


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# ---- what an image is


def test_an_image_is_described_by_its_own_bytes() -> None:
    data = encoded(photo(1, 33, 20))
    info = inspect(data, ANY_SIZE)
    assert (info.width, info.height, info.format, info.mode) == (33, 20, "PNG", "RGB")
    assert (info.orientation, info.frames) == (1, 1)
    assert info.sha256 == hashlib.sha256(data).hexdigest()
    assert len(info.grey) == 1024


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"])
def test_the_format_is_sniffed_from_the_bytes(format: str) -> None:
    data = encoded(photo(2, 40, 30), format)
    info = inspect(data, ANY_SIZE)
    assert (info.format, info.width, info.height) == (format, 40, 30)
    assert measure(data, ANY_SIZE) == (40, 30)
    assert open_rgb(data).size == (40, 30)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        b'{"error": "forbidden"}',
        b"\xff\xd8\xff",
        b"RIFF\x00\x00\x00\x00WEBP",
        b"II*\x00\x08\x00\x00\x00",
        b"BM",
        b"P6 ",
        random.Random(1).randbytes(5000),
        b"%PDF-1.4\n" + bytes(1000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
        encoded(photo(1, 20, 20), "ICO"),
        encoded(photo(1, 20, 20), "TGA"),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_image_is_unreadable(data: bytes) -> None:
    assert refusal(data).reason == "image_unreadable"
    with pytest.raises(BadImage):
        open_rgb(data)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (
            b"\0\0\0\x20ftypheic" + bytes(50),
            "a picture in HEIC, which is not read here; convert it to one of JPEG, PNG",
        ),
        (encoded(photo(1, 20, 20), "ICO"), "a picture in ICO"),
        (b"%PDF-1.4\n" + bytes(100), "a picture in PDF"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "begins like an image"),
        (b"<html>404</html>", "not an image"),
    ],
)
def test_what_is_not_read_is_named(data: bytes, detail: str) -> None:
    error = refusal(data)
    assert error.reason == "image_unreadable" and error.detail.startswith(detail)


# ---- whole or not


def small(seed: int = 7) -> Image.Image:
    return photo(seed, 24, 18)


_CUT: dict[str, bytes] = {
    "jpeg": encoded(small(), "JPEG"),
    "jpeg of one colour": encoded(Image.new("RGB", (64, 64), "red"), "JPEG"),
    "jpeg progressive": encoded(small(), "JPEG", progressive=True),
    "jpeg cmyk": encoded(small().convert("CMYK"), "JPEG"),
    "png": encoded(small()),
    "png of one colour": encoded(Image.new("RGB", (64, 64), "red")),
    "png animated": encoded(small(), save_all=True, append_images=[small(8)]),
    "webp": encoded(small(), "WEBP"),
    "webp lossless": encoded(small(), "WEBP", lossless=True),
    "webp animated": encoded(small(), "WEBP", save_all=True, append_images=[small(8)]),
    "gif": encoded(small().quantize(16), "GIF"),
    "gif animated": encoded(small().quantize(16), "GIF", save_all=True, append_images=[small(8).quantize(16)]),
    "bmp": encoded(small(), "BMP"),
    "ppm": encoded(small(), "PPM"),
    "ppm in text": b"P2 4 2 255\n1 20 30 40 50 60 70 255\n",
    "tiff": encoded(small(), "TIFF"),
    "tiff lzw": encoded(small(), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": encoded(small(), "TIFF", compression="jpeg"),
    "avif": encoded(small(), "AVIF"),
    "avif of one colour": encoded(Image.new("RGB", (64, 64), "red"), "AVIF"),
    "avif animated": encoded(small(), "AVIF", save_all=True, append_images=[small(8)]),
    "avif with alpha": encoded(Image.new("RGBA", (24, 18), (255, 0, 0, 100)), "AVIF"),
    "jpeg 2000": encoded(small(), "JPEG2000"),
    "jpeg 2000 of one colour": encoded(Image.new("RGB", (64, 64), "red"), "JPEG2000"),
    "jpeg 2000 without boxes": encoded(small(), "JPEG2000", no_jp2=True),
    "jpeg 2000 in tiles": encoded(small(), "JPEG2000", tile_size=(12, 12), irreversible=True),
}


@pytest.mark.parametrize("data", _CUT.values(), ids=_CUT.keys())
def test_no_file_passes_without_its_last_byte_or_any_more(data: bytes) -> None:
    inspect(data, ANY_SIZE)
    for length in range(len(data)):
        assert refusal(data[:length]).reason in ("image_truncated", "image_unreadable"), length


def test_what_follows_the_end_does_not_matter() -> None:
    for name, data in _CUT.items():
        assert inspect(data + b"appended\n", ANY_SIZE).grey == inspect(data, ANY_SIZE).grey, name


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"])
def test_a_wrong_checksum_in_a_png_is_damage(kind: bytes) -> None:
    data = encoded(small())
    at = data.index(kind)
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    error = refusal(data[:end] + bytes([data[end] ^ 1]) + data[end + 1 :])
    assert error.reason == "image_truncated" and f"wrong checksum in its chunk {kind!r}" in error.detail


@pytest.mark.parametrize("format", ["WEBP", "PNG", "GIF"])
def test_a_file_cut_in_its_header_is_called_by_its_kind(format: str) -> None:
    error = refusal(encoded(photo(3), format)[:30])
    assert error.reason == "image_truncated" and error.detail.startswith(format)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
        ("AVIF", {}),
        ("JPEG2000", {}),
        ("JPEG2000", {"irreversible": True, "quality_layers": [40, 20]}),
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_file_is_refused(format: str, options: dict[str, object], share: float) -> None:
    data = encoded(photo(3), format, **options)
    assert refusal(data[: int(len(data) * share)]).reason in ("image_truncated", "image_unreadable")
    with pytest.raises(BadImage):
        open_rgb(data[: int(len(data) * share)])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "AVIF", "JPEG2000"])
def test_a_file_cut_after_its_header_is_truncated_not_unreadable(format: str) -> None:
    data = encoded(photo(3), format)
    assert refusal(data[: len(data) * 2 // 3]).reason == "image_truncated"


def test_pillows_leniency_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="LOAD_TRUNCATED_IMAGES"):
        inspect(encoded(photo(1, 20, 20)), ANY_SIZE)


# ---- size


def test_the_pixel_cap_is_inclusive() -> None:
    data = encoded(photo(1, 30, 20))
    assert inspect(data, 600).width == 30
    error = refusal(data, 599)
    assert error.reason == "image_too_large"
    assert "30 x 20 = 600" in error.detail


def test_a_tiny_file_that_claims_a_huge_size_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    bmp = bytearray(encoded(photo(1, 8, 8), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    gif = bytearray(encoded(photo(1, 8, 8), "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    for data in (png, bytes(bmp), bytes(gif), b"P6 60000 60000 255\n"):
        assert refusal(data, 100_000_000).reason == "image_too_large"


def test_an_image_above_pillows_own_limit_passes_when_the_cap_allows_it() -> None:
    data = encoded(Image.new("L", (9500, 9500)), compress_level=1)
    assert inspect(data, 100_000_000).width == 9500
    assert refusal(data, 90_000_000).reason == "image_too_large"


def test_a_text_chunk_above_one_mebibyte_is_legal() -> None:
    meta = PngImagePlugin.PngInfo()
    meta.add_text("Raw profile", "x" * (2 << 20), zip=True)
    data = encoded(photo(1, 20, 20), pnginfo=meta)
    assert inspect(data, ANY_SIZE).width == 20
    assert open_rgb(data).size == (20, 20)


def test_a_text_chunk_that_inflates_without_end_is_refused() -> None:
    data = encoded(photo(1, 20, 20))
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20)))
    assert refusal(data[:33] + bomb + data[33:]).reason in ("image_truncated", "image_unreadable")


def gif(screen: tuple[int, int], *frames: tuple[int, int, int, int], disposal: int = 2) -> bytes:
    """Frames of one byte of LZW each, whatever their size."""
    blocks = (
        b"!\xf9\4" + bytes([disposal << 2]) + bytes(4) + b"," + struct.pack("<4H", *frame) + b"\0\2\2\x44\1\0"
        for frame in frames
    )
    return b"GIF89a" + struct.pack("<HH", *screen) + b"\x80\0\0" + bytes(6) + b"".join(blocks) + b";"


@pytest.mark.parametrize("frame", [(0, 0, 65535, 65535), (65535, 65535, 1, 1)])
def test_a_gif_whose_frame_is_huge_is_refused_before_it_has_room_made(frame: tuple[int, int, int, int]) -> None:
    tracked = "import sys; from stages.images.rules import BadImage, inspect\n"
    tracked += "try: inspect(sys.stdin.buffer.read(), 10**8)\nexcept BadImage as error: print(error.reason)\n"
    # of this program alone: ru_maxrss would begin with the memory of the process that started it
    tracked += "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", tracked], input=gif((1, 1), frame), cwd=root, capture_output=True, check=True
    )
    reason, kilobytes = done.stdout.split()
    assert reason == b"image_too_large" and int(kilobytes) < 1_000_000


def test_only_the_first_frame_of_a_gif_makes_its_canvas() -> None:
    info = inspect(gif((1, 1), (3, 2, 1, 1), (0, 0, 65535, 65535)), ANY_SIZE)
    assert (info.width, info.height, info.frames) == (4, 3, 2)


def tiff(**tags: tuple[int, ...]) -> bytes:
    """A TIFF of one page with these tags, all of them 32-bit numbers, and some bytes of zeros."""
    numbers = {"width": 256, "height": 257, "bits": 258, "packing": 259, "colours": 262, "samples": 277}
    numbers |= {"tile_width": 322, "tile_length": 323, "tiles": 324, "tile_bytes": 325}
    entries = b"".join(struct.pack("<HHII", numbers[name], 4, 1, *value) for name, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(300)


def test_a_tile_larger_than_the_cap_is_refused_whatever_the_picture() -> None:
    page = {"width": (1,), "height": (1,), "bits": (8,), "packing": (5,), "colours": (1,), "samples": (1,)}
    data = tiff(**page, tile_width=(20_000,), tile_length=(20_000,), tiles=(8,), tile_bytes=(100,))
    assert refusal(data, 100_000_000).reason == "image_too_large"


def test_a_jpeg_of_more_scans_than_anyone_writes_is_refused() -> None:
    data = encoded(photo(1, 64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert inspect(data[:-2] + data[last:-2] * 50 + data[-2:], ANY_SIZE).width == 64
    error = refusal(data[:-2] + data[last:-2] * 500 + data[-2:])
    assert error.reason == "image_too_large" and "scans" in error.detail
    assert inspect(data + b"\xff\xda" * 500, ANY_SIZE).width == 64  # a video behind it, say


def test_a_png_with_many_colour_profiles_is_refused() -> None:
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1000)))
    data = encoded(photo(1, 20, 20))
    assert inspect(data[:33] + profile + data[33:], ANY_SIZE).width == 20
    assert "colour profiles" in refusal(data[:33] + profile * 2 + data[33:]).detail


@pytest.mark.parametrize("claimed", [1, 2, 1000, 2**31])
def test_frames_of_an_animated_png_are_counted_not_believed(claimed: int) -> None:
    data = encoded(small(), save_all=True, append_images=[small(8), small(9)])
    at = data.index(b"acTL")
    data = data[: at - 4] + chunk(b"acTL", struct.pack(">II", claimed, 0)) + data[at + 16 :]
    assert inspect(data, ANY_SIZE).frames == 3


# ---- EXIF


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_stored_and_opened_upright(format: str, orientation: int) -> None:
    upright = Image.new("RGB", (48, 32), "white")
    upright.paste("red", (0, 0, 16, 16))
    upright.paste("blue", (32, 16, 48, 32))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    as_stored = upright.transpose(Image.Transpose(back[orientation])) if orientation > 1 else upright
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    options |= {"quality": 100, "subsampling": "4:4:4"} if format == "AVIF" else {}
    data = encoded(as_stored, format, exif=turned(orientation), **options)
    info, opened = inspect(data, ANY_SIZE), open_rgb(data)
    assert (info.width, info.height) == opened.size == (48, 32) == measure(data, ANY_SIZE)
    assert info.orientation == orientation
    assert largest_difference(opened, upright) <= 12
    plain = inspect(encoded(upright), ANY_SIZE)
    assert np.abs(greys(info) - greys(plain)).max() <= 12


def greys(info: ImageInfo) -> np.ndarray:
    return np.frombuffer(info.grey, np.uint8).astype(int)


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_orientation_outside_the_standard_means_upright(value: int) -> None:
    data = encoded(photo(1, 30, 20), exif=turned(value))
    assert inspect(data, ANY_SIZE).orientation == 1
    assert open_rgb(data).size == (30, 20)


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encoded(photo(1, 30, 20), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(20))
    assert inspect(data, ANY_SIZE).orientation == 1
    assert open_rgb(data).size == (30, 20)


def test_a_sixteen_bit_picture_can_be_turned() -> None:
    values = (np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).astype(np.uint16)
    for format in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(values), format, exif=turned(6))
        assert open_rgb(data).size == (20, 30) == (inspect(data, ANY_SIZE).width, inspect(data, ANY_SIZE).height)
        np.testing.assert_array_equal(pixels(open_rgb(data))[..., 0], np.rot90(np.round(values / 257), -1))


# ---- modes


def test_transparent_rgba_is_composited_on_white() -> None:
    rgba = np.zeros((4, 3, 4), np.uint8)
    rgba[0] = (0, 0, 0, 0)
    rgba[1] = (0, 0, 0, 255)
    rgba[2] = (255, 0, 0, 128)
    for format in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True, "exact": True} if format == "WEBP" else {}
        opened = pixels(open_rgb(encoded(Image.fromarray(rgba), format, **options)))
        assert opened[0, 0].tolist() == [255, 255, 255]
        assert opened[1, 0].tolist() == [0, 0, 0]
        assert opened[2, 0].tolist() == [255, 127, 127]


def test_grey_with_alpha_is_composited_on_white() -> None:
    la = np.zeros((2, 2, 2), np.uint8)
    la[0], la[1] = (0, 0), (90, 255)
    opened = pixels(open_rgb(encoded(Image.fromarray(la))))
    assert opened[0, 0].tolist() == [255] * 3
    assert opened[1, 0].tolist() == [90] * 3


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(format: str) -> None:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.paste(1, (2, 0, 4, 2))
    opened = pixels(open_rgb(encoded(image, format, transparency=0)))
    assert opened[0, 0].tolist() == [255] * 3
    assert opened[0, 3].tolist() == [200, 0, 0]


def test_a_palette_with_alpha_per_entry_is_composited() -> None:
    image = Image.new("P", (3, 1), 0)
    image.putdata([0, 1, 2])
    image.putpalette([0, 0, 0] * 3)
    opened = pixels(open_rgb(encoded(image, transparency=bytes([0, 128, 255]))))
    assert opened[0, :, 0].tolist() == [255, 127, 0]


def test_a_transparent_colour_key_in_rgb_is_white() -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    opened = pixels(open_rgb(encoded(image, transparency=(1, 2, 3))))
    assert opened[0].tolist() == [[255] * 3, [9] * 3]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 256, 257, 32768, 65535]], np.uint16)
    opened = pixels(open_rgb(encoded(Image.fromarray(values), format)))
    assert opened[0, :, 0].tolist() == [0, 1, 1, 128, 255]
    assert (opened[..., 0] == opened[..., 2]).all()


def test_big_endian_sixteen_bit_tiff_is_scaled() -> None:
    image = Image.frombytes("I;16B", (4, 1), np.array([0, 257, 25700, 65535], ">u2").tobytes())
    data = encoded(image, "TIFF")
    assert inspect(data, ANY_SIZE).mode == "I;16B"
    assert pixels(open_rgb(data))[0, :, 0].tolist() == [0, 1, 100, 255]


def test_cmyk_jpeg_shows_its_colours() -> None:
    image = Image.new("RGB", (32, 32), (200, 40, 40))
    data = encoded(image.convert("CMYK"), "JPEG", quality=95)
    assert inspect(data, ANY_SIZE).mode == "CMYK"
    assert largest_difference(open_rgb(data), image) <= 6
    assert abs(greys(inspect(data, ANY_SIZE)).mean() - greys(inspect(encoded(image), ANY_SIZE)).mean()) <= 6


def test_grey_and_progressive_jpeg_equal_pillows_decoder() -> None:
    for image, options in ((photo(4).convert("L"), {}), (photo(4), {"progressive": True})):
        data = encoded(image, "JPEG", **options)
        assert largest_difference(open_rgb(data), Image.open(io.BytesIO(data)).convert("RGB")) == 0
        assert inspect(data, ANY_SIZE).mode == image.mode


def test_one_bit_images_are_black_and_white() -> None:
    image = Image.new("1", (4, 1), 1)
    image.putpixel((0, 0), 0)
    assert pixels(open_rgb(encoded(image)))[0, :, 0].tolist() == [0, 255, 255, 255]


def test_an_opaque_rgb_image_keeps_every_pixel() -> None:
    image = photo(5)
    assert largest_difference(open_rgb(encoded(image)), image) == 0


def test_premultiplied_grey_is_composited() -> None:
    data = bytearray(encoded(Image.new("LA", (2, 1), (90, 255)), "TIFF"))
    at = data.index(struct.pack("<HH", 338, 3))  # ExtraSamples: from unassociated to associated alpha
    struct.pack_into("<H", data, at + 8, 1)
    assert inspect(bytes(data), ANY_SIZE).mode == "La"
    assert open_rgb(bytes(data)).getpixel((0, 0)) == (90, 90, 90)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 51.0, 200.0], [0, 51, 200]),
        ([-1.0, 255.0, 510.0], [0, 128, 255]),
        ([float("nan"), float("inf"), 0.2, 1.0], [0, 0, 51, 255]),
    ],
)
def test_floats_are_white_at_one_or_at_their_largest(values: list[float], wanted: list[int]) -> None:
    data = encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert inspect(data, ANY_SIZE).mode == "F"
    assert pixels(open_rgb(data))[0, :, 0].tolist() == wanted


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_a_picture_done_in_bands_is_the_same_picture(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = photo(11, 50, 37).convert("L").convert("I") if mode == "I;16" else photo(11, 50, 37)
    picture = picture.convert(mode) if mode not in ("I", "F") else picture.convert("L").convert(mode)
    if mode in ("LA", "RGBA"):
        picture.putalpha(photo(12, 50, 37).convert("L"))
    data = encoded(picture, "TIFF", **({"exif": turned(6)} if mode == "RGBA" else {}))
    whole, info = open_rgb(data), inspect(data, ANY_SIZE)
    monkeypatch.setattr(rules, "_BAND_PIXELS", 130)
    assert largest_difference(open_rgb(data), whole) == 0
    assert inspect(data, ANY_SIZE) == info


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_counts(format: str) -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert inspect(data, ANY_SIZE).frames == 3
    assert largest_difference(open_rgb(data), frames[0]) <= (3 if format == "AVIF" else 0)
    assert np.abs(greys(inspect(data, ANY_SIZE)) - greys(inspect(encoded(frames[0]), ANY_SIZE))).max() <= 1


def test_a_jpeg_is_decoded_no_larger_than_its_look_needs() -> None:
    """Which costs a fraction of the whole picture, and is why its luminance is not that of the whole one."""
    data = encoded(photo(6, 1600, 1200), "JPEG")
    scaled = Image.open(io.BytesIO(data))
    scaled.draft("L", (64, 64))
    assert scaled.size == (200, 150)
    grey = scaled.resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=2.0)
    assert inspect(data, ANY_SIZE).grey == grey.tobytes()
    assert inspect(data, ANY_SIZE).grey != inspect(encoded(open_rgb(data)), ANY_SIZE).grey


# ---- damage


def _sources() -> dict[str, bytes]:
    picture = photo(7, 64, 48)
    other = photo(8, 64, 48)
    return {
        "jpeg": encoded(picture, "JPEG", exif=turned(6)),
        "jpeg-progressive": encoded(picture, "JPEG", progressive=True),
        "jpeg-cmyk": encoded(picture.convert("CMYK"), "JPEG"),
        "png": encoded(picture.resize((16, 12)), "PNG", exif=turned(3)),
        "png-palette": encoded(picture.quantize(8), "PNG", transparency=0),
        "png-animated": encoded(picture.resize((16, 12)), "PNG", save_all=True, append_images=[other.resize((16, 12))]),
        "png-16": encoded(Image.fromarray(np.arange(300, dtype=np.uint16).reshape(15, 20) * 200), "PNG"),
        "webp": encoded(picture, "WEBP", exif=turned(6)),
        "webp-lossless": encoded(picture.resize((16, 12)), "WEBP", lossless=True),
        "webp-animated": encoded(picture, "WEBP", save_all=True, append_images=[other]),
        "gif": encoded(picture.quantize(16), "GIF", save_all=True, append_images=[other.quantize(16)]),
        "bmp": encoded(picture.quantize(16), "BMP"),
        "ppm": encoded(picture.resize((8, 6)), "PPM"),
        "mpo": encoded(picture, "MPO", save_all=True, append_images=[other]),
        "tiff": encoded(picture.resize((16, 12)), "TIFF", exif=turned(6)),
        "tiff-lzw": encoded(picture.resize((16, 12)), "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded(picture, "TIFF", compression="jpeg"),
        "tiff-pages": encoded(picture.resize((8, 6)), "TIFF", save_all=True, append_images=[other.resize((8, 6))]),
        "avif": encoded(picture, "AVIF", exif=turned(6)),
        "avif-animated": encoded(picture, "AVIF", save_all=True, append_images=[other]),
        "jpeg-2000": encoded(picture, "JPEG2000"),
        "jpeg-2000-tiles": encoded(picture, "JPEG2000", tile_size=(32, 32), no_jp2=True),
    }


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, bits flipped, stretches deleted, inserted or doubled, lengths overwritten, the end cut off."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        reach = len(content) if rng.random() < 0.5 else min(len(content), 200)
        at = rng.randrange(max(reach, 1))
        match rng.randrange(7):
            case 0:
                content[at : at + 1] = rng.randbytes(1)
            case 1 if content:
                content[at] ^= 1 << rng.randrange(8)
            case 2:
                del content[at : at + rng.randrange(1, 20)]
            case 3:
                content[at:at] = rng.randbytes(rng.randrange(1, 20))
            case 4:
                content[at : at + 4] = rng.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01"))
            case 5:
                content[at:at] = content[at : at + 40]
            case 6 if rng.random() < 0.3:
                del content[at:]
    return bytes(content)


@pytest.mark.parametrize(("name", "data"), _sources().items(), ids=_sources().keys())
def test_damaged_files_are_refused_with_a_reason_or_open(name: str, data: bytes) -> None:
    """Whatever inspect accepts, open_rgb opens at the promised size; nothing but BadImage comes out of either."""
    outcomes: Counter[str] = Counter()
    for number in range(150):
        variant = damaged(data, random.Random(f"{name}/{number}"))
        try:
            info = inspect(variant, 10**6)
        except BadImage as error:
            assert error.reason in REASONS
            outcomes[error.reason] += 1
            continue
        outcomes["accepted"] += 1
        opened = open_rgb(variant)
        assert opened.mode == "RGB" and opened.size == (info.width, info.height), number
    assert outcomes["accepted"] and outcomes.total() - outcomes["accepted"], outcomes


def test_what_is_no_image_is_said_so_by_a_process_that_has_seen_none() -> None:
    lines = (
        "from stages.images.rules import open_rgb",
        "try: open_rgb(b'no picture')",
        "except Exception as e: print(e)",
    )
    script = "\n".join(lines)
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("image_unreadable: not an image")


# ---- what a header alone says


def test_a_header_says_the_size_of_a_picture_that_is_cut() -> None:
    data = encoded(photo(1, 200, 100), "JPEG")
    assert measure(data[: len(data) // 2], ANY_SIZE) == (200, 100)
    with pytest.raises(BadImage, match="image_truncated"):
        inspect(data[: len(data) // 2], ANY_SIZE)


@pytest.mark.parametrize(
    ("data", "most", "reason"),
    [
        (b"<html>not found</html>", ANY_SIZE, "image_unreadable"),
        (b"", ANY_SIZE, "image_unreadable"),
        (encoded(photo(1, 30, 20)), 599, "image_too_large"),
        (encoded(photo(1, 30, 20), "GIF"), 599, "image_too_large"),
        (encoded(photo(1, 30, 20))[:-1], ANY_SIZE, "image_truncated"),
    ],
)
def test_a_header_that_says_no_allowed_size_is_refused_as_at_ingest(data: bytes, most: int, reason: str) -> None:
    for look in (measure, inspect):
        with pytest.raises(BadImage, match=reason):
            look(data, most)
