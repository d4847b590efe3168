"""Grids equal transformers' and InternVL's; pixels equal the reference construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.tiles.internvl import InternVL
from stages.tiles.llmjp4vl import LlmJp4VL
from stages.tiles.scheme import Grid
from tests.stages.pictures import photo
from tests.stages.tiles.sizes import sizes, some

SIDES = st.integers(1, 20_000)


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


def of_transformers(widths: np.ndarray, heights: np.ndarray, tile: int, max_tiles: int) -> list[tuple[int, int]]:
    """(rows, cols) of each."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    ask = get_optimal_tiled_canvas.__wrapped__
    pairs = zip(widths.tolist(), heights.tolist(), strict=True)
    return [ask((height, width), (tile, tile), 1, max_tiles)[::-1] for width, height in pairs]


def assert_same_grids(scheme: InternVL | LlmJp4VL, widths: np.ndarray, heights: np.ndarray) -> None:
    found = scheme.grids(widths, heights)
    wanted = np.array(of_transformers(widths, heights, scheme.tile, scheme.max_tiles))
    np.testing.assert_array_equal(np.stack([found.rows, found.cols], 1), wanted)
    np.testing.assert_array_equal(found.num_tiles, wanted.prod(1) + (wanted.prod(1) > 1))


@pytest.mark.parametrize("scheme", [InternVL(), LlmJp4VL()])
def test_a_hundred_thousand_grids_equal_transformers(scheme: InternVL | LlmJp4VL) -> None:
    assert_same_grids(scheme, *sizes())


@pytest.mark.parametrize("max_tiles", range(1, 12))
def test_grids_of_fewer_tiles_equal_transformers(max_tiles: int) -> None:
    assert_same_grids(InternVL(max_tiles=max_tiles), *np.array(some(3000)).T)


@pytest.mark.parametrize("max_tiles", [1, 2, 6, 7, 12])
def test_grids_equal_internvl(max_tiles: int) -> None:
    for width, height in some(600):
        grid = InternVL(max_tiles=max_tiles).grid(width, height)
        assert (grid.cols, grid.rows) == internvl(width, height, 448, max_tiles), (width, height)


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
    small, large = LlmJp4VL().grid(width, height), LlmJp4VL().grid(width * factor, height * factor)
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
