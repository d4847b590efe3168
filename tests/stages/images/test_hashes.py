"""The perceptual hash is imagehash's, of the picture as it is seen, and stays what it was."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw

from stages.images.hashes import detail, plain, sha256
from stages.images.rules import ImageInfo, inspect
from tests.stages.pictures import bar_chart, encoded, photo

ANY_SIZE = 10**9


def bits(info: ImageInfo) -> np.ndarray:
    return np.unpackbits(np.array([info.phash], ">u8").view(np.uint8))


@pytest.mark.parametrize("seed", range(8))
def test_the_hash_is_imagehashs(seed: int) -> None:
    image = photo(seed, 200 + 31 * seed, 150)
    for version in (image, image.convert("L")):
        reference = imagehash.phash(version).hash.flatten()
        assert bits(inspect(encoded(version), ANY_SIZE)).tolist() == reference.tolist()
    reference = imagehash.phash(image).hash.flatten()
    for options in ({}, {"progressive": True}, {"quality": 60}):
        jpeg = inspect(encoded(image, "JPEG", **options), ANY_SIZE)
        assert (bits(jpeg) != reference).sum() <= 6


def test_the_hash_is_imagehashs_where_frequencies_tie() -> None:
    """Flat, mirrored and sparse pictures: half of the frequencies are zero, or equal to the median."""
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    halves = np.repeat([[0, 200]], 16, axis=1).repeat(32, axis=0).astype(np.uint8)
    flat = [np.full((32, 32), value, np.uint8) for value in (0, 1, 127, 255)]
    blocks = [np.kron(rng.integers(0, 256, (4, 4), dtype=np.uint8), np.ones((8, 8), np.uint8)) for _ in range(20)]
    for values in (noise, halves, halves.T, np.minimum(noise, noise[::-1]), (noise > 250) * noise, *flat, *blocks):
        picture = Image.fromarray(np.ascontiguousarray(values))
        assert bits(inspect(encoded(picture), ANY_SIZE)).tolist() == imagehash.phash(picture).hash.flatten().tolist()


@pytest.mark.parametrize(
    ("picture", "phash"),
    [
        (photo(1, 33, 20), 0x84E7F8BA32CF8036),
        (photo(4), 0x9141A68FC485FB76),
        (bar_chart([10, 80, 45]), 0xE3949C6B9433C03F),
        (Image.new("RGB", (40, 30), "white"), 1 << 63),
    ],
    ids=["small photo", "photo", "chart", "white"],
)
def test_a_picture_keeps_its_hash(picture: Image.Image, phash: int) -> None:
    """Pictures are compared across runs, and so across versions of Pillow, SciPy and imagehash."""
    assert inspect(encoded(picture), ANY_SIZE).phash == phash


@pytest.mark.parametrize(
    ("picture", "sums", "share"),
    [
        (photo(4), "a038ee252f6057f7", 23),  # none, of what is not drawn
        (bar_chart([10, 80, 45]), "60f9e5c26782d491", 198),
        (Image.new("RGB", (40, 30), "white"), "a038ee252f6057f7", 255),
    ],
    ids=["photo", "chart", "white"],
)
def test_a_picture_keeps_its_detail(picture: Image.Image, sums: str, share: int) -> None:
    """Compared to the last bit, across runs and machines."""
    info = inspect(encoded(picture), ANY_SIZE)
    assert (sha256(info.detail)[:16], info.plain) == (sums, share)


def test_the_detail_of_a_jpeg_is_of_a_finer_decode_than_its_luminance() -> None:
    data = encoded(bar_chart([10, 80, 45], 1600, 1200), "JPEG")
    fine, coarse = (Image.open(io.BytesIO(data)) for _ in range(2))
    fine.draft("L", (192, 192))
    coarse.draft("L", (64, 64))
    assert (fine.size, coarse.size) == ((400, 300), (200, 150))
    info = inspect(data, ANY_SIZE)
    assert info.detail == detail(fine.reduce(1)).tobytes() and info.plain == plain(coarse.reduce(2))


def test_detail_shows_the_cells_that_were_touched_and_no_others() -> None:
    """A point, an edge along a row, one along a column: each in a cell of its own."""
    blank = Image.new("L", (484, 484), 200)
    touched = blank.copy()
    draw = ImageDraw.Draw(touched)
    draw.point((30, 30), 190)
    draw.rectangle((198, 195, 219, 219), 190)  # the whole width of a cell, from its middle down
    draw.rectangle((401, 396, 417, 417), 190)  # the whole height, from its middle on
    cells = [
        np.frombuffer(inspect(encoded(image), ANY_SIZE).detail, "<i2").reshape(22, 22) for image in (blank, touched)
    ]
    assert not cells[0].any()
    assert {(1, 1), (8, 9), (18, 18)} <= {(int(y), int(x)) for y, x in np.argwhere(cells[1])}
    assert not cells[1][2:7].any() and not cells[1][11:17].any()


def test_what_is_kept_of_a_picture_is_at_most_two_kibibytes() -> None:
    info = inspect(encoded(photo(1, 3000, 500), "JPEG"), ANY_SIZE)
    assert len(info.grey) + len(info.detail) + 8 + 1 <= 2048


def test_different_pictures_have_far_hashes() -> None:
    hashes = [bits(inspect(encoded(photo(seed)), ANY_SIZE)) for seed in range(12)]
    assert min((a != b).sum() for i, a in enumerate(hashes) for b in hashes[:i]) > 12
