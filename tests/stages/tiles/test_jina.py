"""Tilings equal Molmo's, tokens and pixels those of jina-vlm's rule, which is restated here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from stages.tiles.jina import Jina
from stages.tiles.scheme import Grid, NoGrid, count
from tests.stages.pictures import photo
from tests.stages.tiles.sizes import sizes, some

SCHEME = Jina()


def rule(widths: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """(rows, cols) of each by all tilings at once, as the processors find one."""
    tilings = sorted(
        ((r, c) for r in range(1, 13) for c in range(1, 13) if r * c <= 12), key=lambda t: (t[0] * t[1], t[0])
    )
    found = np.array(tilings, np.int32)
    sides = np.stack([heights - 112, widths - 112], 1).astype(np.float32)
    with np.errstate(divide="ignore"):
        scale = ((found * 266).astype(np.float32)[None] / sides[:, None]).min(-1)
    most, least = scale.argmax(1), np.where(scale < 1.0, 10e9, scale).argmin(1)
    return found[np.where((scale < 1).all(1), most, least)]


def test_a_hundred_thousand_grids_equal_the_rule() -> None:
    widths, heights = sizes()
    found = SCHEME.grids(widths, heights)
    np.testing.assert_array_equal(np.stack([found.rows, found.cols], 1), rule(widths, heights))
    assert found.thumbnail.all()


def test_grids_equal_molmo_2_in_transformers() -> None:
    from transformers.models.molmo2.image_processing_molmo2 import compute_crop_geometry

    for width, height in some(4000):
        rows, cols, down, across = compute_crop_geometry(height, width, 12, [4, 4], 378, 14)
        assert SCHEME.grid(width, height) == Grid(rows, cols, True), (width, height)
        assert (down, across) == (rows * 266 + 112, cols * 266 + 112)


@pytest.mark.parametrize(
    ("height", "width", "grid", "crops", "patches", "tokens"),
    [
        (378, 378, (1, 1), 2, 392, 424),
        (64, 64, (1, 1), 2, 392, 424),
        (644, 644, (2, 2), 5, 772, 814),
        (600, 800, (2, 3), 7, 1012, 1054),
        (768, 1024, (3, 4), 13, 1692, 1744),
        (1080, 1920, (3, 4), 13, 1692, 1744),
        (1754, 1240, (4, 3), 13, 1692, 1754),
        (2048, 2048, (3, 3), 10, 1352, 1404),
        (3304, 378, (12, 1), 13, 1932, 2074),
        # a side within its margins
        (2000, 100, (1, 1), 2, 392, 424),
        (2000, 112, (8, 1), 9, 1372, 1474),
        (112, 112, (1, 1), 2, 392, 424),
        (1, 4000, (1, 1), 2, 392, 424),
    ],
)
def test_tokens_of_the_published_code(
    height: int, width: int, grid: tuple[int, int], crops: int, patches: int, tokens: int
) -> None:
    found = SCHEME.grid(width, height)
    runs = SCHEME.runs(found, width, height)
    assert (found.rows, found.cols) == grid and found.num_tiles == crops
    assert count(runs, "patch") == patches and count(runs, "patch", "row", "start", "end") == tokens


def kept(tiles: int) -> int:
    """Image tokens along a side: 14 of one tile, else 12 of the first and the last and 10 of those between."""
    return 14 if tiles == 1 else sum(12 if tile in (0, tiles - 1) else 10 for tile in range(tiles))


@pytest.mark.parametrize("rows", range(1, 13))
def test_the_tokens_of_an_image_are_two_framed_blocks_of_lines(rows: int) -> None:
    for cols in range(1, 12 // rows + 1):
        down, across = kept(rows), kept(cols)
        wanted = [
            "start",
            *(["patch"] * 14 + ["row"]) * 14,
            "end",
            "start",
            *(["patch"] * across + ["row"]) * down,
            "end",
        ]
        runs = SCHEME.runs(Grid(rows, cols, True), 1, 1)
        assert [kind for kind, number in runs for _ in range(number)] == wanted
        assert len(wanted) == 214 + down * (across + 1)


def bilinear(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Interpolation between the centres of pixels, without smoothing."""
    pixels = np.asarray(image).astype(np.float64)
    for axis, size in ((0, height), (1, width)):
        at = np.maximum((np.arange(size) + 0.5) * pixels.shape[axis] / size - 0.5, 0)
        low = np.minimum(at.astype(int), pixels.shape[axis] - 1)
        high = np.minimum(low + 1, pixels.shape[axis] - 1)
        part = (at - low)[:, None, None] if axis == 0 else (at - low)[None, :, None]
        pixels = np.take(pixels, low, axis) * (1 - part) + np.take(pixels, high, axis) * part
    return pixels


@pytest.mark.parametrize("size", [(640, 480), (97, 301), (1500, 400), (378, 378), (1, 1), (2, 700)])
def test_pixels_equal_the_rule(size: tuple[int, int]) -> None:
    image = photo(8, *size)
    grid = SCHEME.grid(*size)
    canvas = bilinear(image, grid.cols * 266 + 112, grid.rows * 266 + 112)
    places = [(row * 266, col * 266) for row in range(grid.rows) for col in range(grid.cols)]
    theirs = [bilinear(image, 378, 378), *(canvas[y : y + 378, x : x + 378] for y, x in places)]
    # float32 there, float64 here: where one is half a step off, half a step more
    assert np.abs(SCHEME.cut(image, grid) - np.stack(theirs)).max() < 0.51


def smart(height: int, width: int) -> tuple[int, int]:
    """smart_resize of the released processor, restated."""
    h, w = round(height / 14) * 14, round(width / 14) * 14
    if h * w > 1_003_520:
        beta = math.sqrt((height * width) / 1_003_520)
        return max(14, math.floor(height / beta / 14) * 14), max(14, math.floor(width / beta / 14) * 14)
    if h * w < 3136:
        beta = math.sqrt(3136 / (height * width))
        return math.ceil(height * beta / 14) * 14, math.ceil(width * beta / 14) * 14
    return h, w


def test_an_image_may_be_brought_to_so_many_pixels_first() -> None:
    scheme = Jina(pixels=(3136, 1_003_520))
    for width, height in some(4000):
        if max(width, height) > 200 * min(width, height):
            with pytest.raises(NoGrid, match="more than 200 times"):
                scheme.grid(width, height)
            continue
        down, across = smart(height, width)
        assert scheme.grid(width, height) == SCHEME.grid(across, down), (width, height)
    image = photo(9, 2000, 1500)
    down, across = smart(1500, 2000)
    first = Image.fromarray(np.rint(bilinear(image, across, down)).astype(np.uint8))
    grid = scheme.grid(2000, 1500)
    assert np.abs(scheme.cut(image, grid).astype(int) - SCHEME.cut(first, grid)).max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 380}, "multiple of patch"),
        ({"margin": 3}, "one of merge"),
        ({"margin": 14}, "leaves nothing of 27 patches"),
        ({"margin": -2}, "margin at least 0"),
        ({"max_tiles": 0}, "at least 1"),
        ({"pixels": (5, 4)}, "the least and the most"),
        ({"pixels": (0, 4)}, "the least and the most"),
    ],
)
def test_schemes_that_cannot_be_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Jina(**options)  # type: ignore[arg-type]
