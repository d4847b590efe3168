"""Grids equal transformers' and InternVL's; pixels equal the reference construction."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.tiles.internvl import InternVL
from stages.tiles.scheme import Grid
from tests.stages.pictures import photo

SIDES = st.integers(1, 20_000)
LLMJP = InternVL(tile=512, patch=16)


def internvl(width: int, height: int, tile: int, max_tiles: int) -> tuple[int, int]:
    """find_closest_aspect_ratio of OpenGVLab/InternVL, restated: (cols, rows)."""
    ratios = {
        (i, j)
        for n in range(1, max_tiles + 1)
        for i in range(1, n + 1)
        for j in range(1, n + 1)
        if 1 <= i * j <= max_tiles
    }
    best_diff, best = float("inf"), (1, 1)
    for ratio in sorted(ratios, key=lambda r: r[0] * r[1]):
        diff = abs(width / height - ratio[0] / ratio[1])
        if diff < best_diff:
            best_diff, best = diff, ratio
        elif diff == best_diff and width * height > 0.5 * tile * tile * ratio[0] * ratio[1]:
            best = ratio
    return best


def sizes(count: int) -> list[tuple[int, int]]:
    """Random sizes, a third of them with an aspect ratio of small integers, where grids tie."""
    rng = random.Random(20)
    found = []
    for number in range(count):
        if number % 3:
            found.append((rng.randint(1, 5000), rng.randint(1, 5000)))
        else:
            scale = rng.choice([1, 16, 28, 56, 112, 224, 256, 362, 448, 512, 640])
            found.append((rng.randint(1, 12) * scale, rng.randint(1, 12) * scale))
    return found


@pytest.mark.parametrize(("tile", "patch"), [(448, 14), (512, 16)])
def test_grids_equal_transformers(tile: int, patch: int) -> None:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    reference = get_optimal_tiled_canvas.__wrapped__
    for max_tiles in range(1, 13):
        scheme = InternVL(tile=tile, patch=patch, max_tiles=max_tiles)
        for width, height in sizes(4000):
            cols, rows = reference((height, width), (tile, tile), 1, max_tiles)
            grid = scheme.grid(width, height)
            assert (grid.cols, grid.rows) == (cols, rows), (width, height, max_tiles)


@pytest.mark.parametrize("max_tiles", [1, 2, 6, 7, 12])
def test_grids_equal_internvl(max_tiles: int) -> None:
    for width, height in sizes(600):
        grid = InternVL(max_tiles=max_tiles).grid(width, height)
        assert (grid.cols, grid.rows) == internvl(width, height, 448, max_tiles), (width, height)


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [
        (224, 224, 1),
        (512, 512, 1),
        (768, 768, 5),
        (1000, 1000, 5),
        (1024, 768, 13),
        (1536, 1536, 10),
        (2048, 2048, 10),
        (1600, 1200, 13),
        (1240, 1754, 7),
        (1920, 1080, 9),
        (100, 2000, 13),
    ],
)
def test_tile_counts_of_llm_jp(width: int, height: int, tiles: int) -> None:
    assert LLMJP.grid(width, height).num_tiles == tiles


def test_a_page_is_two_columns_of_three() -> None:
    assert LLMJP.grid(1240, 1754) == Grid(rows=3, cols=2, thumbnail=True)
    assert LLMJP.grid(1920, 1080) == Grid(rows=2, cols=4, thumbnail=True)


@given(SIDES, SIDES, st.integers(1, 12), st.booleans())
def test_every_grid_fits_its_scheme(width: int, height: int, max_tiles: int, thumbnail: bool) -> None:
    grid = InternVL(max_tiles=max_tiles, thumbnail=thumbnail).grid(width, height)
    assert 1 <= grid.rows * grid.cols <= max_tiles
    assert grid.thumbnail == (thumbnail and grid.rows * grid.cols > 1)
    assert grid.num_tiles == grid.rows * grid.cols + grid.thumbnail


@given(SIDES, SIDES, st.integers(1, 12))
def test_no_grid_is_nearer_to_the_aspect_ratio(width: int, height: int, max_tiles: int) -> None:
    grid = InternVL(max_tiles=max_tiles).grid(width, height)
    nearest = min(
        abs(width / height - cols / rows)
        for cols in range(1, max_tiles + 1)
        for rows in range(1, max_tiles // cols + 1)
    )
    assert abs(width / height - grid.cols / grid.rows) == nearest


@given(st.integers(1, 400), st.integers(1, 400), st.integers(2, 20))
def test_a_larger_copy_never_gets_fewer_tiles(width: int, height: int, factor: int) -> None:
    small, large = LLMJP.grid(width, height), LLMJP.grid(width * factor, height * factor)
    assert large.num_tiles >= small.num_tiles


def reference_tiles(image: Image.Image, grid: Grid, side: int) -> np.ndarray:
    """dynamic_preprocess: resize, crop box by box, append the thumbnail."""
    canvas = image.resize((grid.cols * side, grid.rows * side), Image.Resampling.BICUBIC)
    tiles = []
    for number in range(grid.rows * grid.cols):
        x, y = number % grid.cols * side, number // grid.cols * side
        tiles.append(canvas.crop((x, y, x + side, y + side)))
    if grid.thumbnail:
        tiles.append(image.resize((side, side), Image.Resampling.BICUBIC))
    return np.stack([np.asarray(tile) for tile in tiles])


@pytest.mark.parametrize("size", [(301, 97), (64, 64), (50, 333), (640, 480), (1, 1), (3, 200)])
@pytest.mark.parametrize("thumbnail", [True, False])
def test_pixels_equal_the_reference(size: tuple[int, int], thumbnail: bool) -> None:
    scheme = InternVL(tile=56, patch=14, max_tiles=12, thumbnail=thumbnail)
    image = photo(1, *size)
    grid = scheme.grid(*size)
    tiles = scheme.cut(image, grid)
    assert tiles.shape == (grid.num_tiles, 56, 56, 3)
    assert tiles.dtype == np.uint8 and tiles.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(tiles, reference_tiles(image, grid, 56))


def test_pixels_equal_transformers_patches() -> None:
    from transformers.image_utils import SizeDict
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    image = photo(2, 500, 300)
    scheme = InternVL(tile=112, patch=14, max_tiles=6)
    patches = GotOcr2ImageProcessorPil().crop_image_to_patches(
        np.asarray(image).transpose(2, 0, 1),
        min_patches=1,
        max_patches=6,
        use_thumbnail=True,
        patch_size=SizeDict(height=112, width=112),
        resample=Image.Resampling.BICUBIC,
    )
    theirs = np.stack([np.asarray(patch).transpose(1, 2, 0) for patch in patches])
    np.testing.assert_array_equal(scheme.cut(image, scheme.grid(500, 300)), theirs)


def test_cutting_anything_but_rgb_is_refused() -> None:
    with pytest.raises(ValueError, match="open_rgb"):
        InternVL().cut(Image.new("L", (64, 64)), Grid(1, 1, False))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-3, 5)])
def test_an_empty_image_has_no_grid(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 x 1"):
        InternVL().grid(*size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 450}, "450 is not a multiple of patch x merge = 28"),
        ({"tile": 0}, "at least 1"),
        ({"max_tiles": 0}, "at least 1"),
        ({"merge": 0}, "at least 1"),
        ({"patch": -14}, "at least 1"),
    ],
)
def test_schemes_that_cannot_be_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InternVL(**options)


@pytest.mark.parametrize(
    ("tile", "patch", "merge", "tokens"), [(448, 14, 2, 256), (512, 16, 2, 256), (378, 14, 1, 729)]
)
def test_tokens_per_tile(tile: int, patch: int, merge: int, tokens: int) -> None:
    assert InternVL(tile=tile, patch=patch, merge=merge).tokens_per_tile == tokens
