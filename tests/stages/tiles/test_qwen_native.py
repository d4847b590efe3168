"""Counts and pixels equal transformers' processor of Qwen2-VL."""

from __future__ import annotations

import numpy as np
import pytest

from stages.tiles.qwen_native import QwenNative
from stages.tiles.scheme import Grid, NoGrid
from tests.stages.pictures import photo
from tests.stages.tiles.sizes import sizes

SCHEME = QwenNative()


@pytest.mark.parametrize("pixels", [(3136, 1_003_520), (3136, 12_845_056), (1, 784), (200_704, 200_704)])
def test_a_hundred_thousand_grids_equal_transformers(pixels: tuple[int, int]) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    widths, heights = sizes(100_000 if pixels == SCHEME.pixels else 10_000)
    found, wanted = QwenNative(pixels=pixels).grids(widths, heights), []
    for width, height in zip(widths.tolist(), heights.tolist(), strict=True):
        try:
            wanted.append(smart_resize(height, width, 28, *pixels))
        except ValueError:
            wanted.append((0, 0))
    np.testing.assert_array_equal(np.stack([found.rows, found.cols], 1) * 28, np.array(wanted))


@pytest.mark.parametrize(
    ("width", "height", "grid"),
    [(28, 28, (2, 2)), (56, 56, (2, 2)), (640, 480, (17, 23)), (14, 2800, (29, 1)), (3000, 4000, (41, 30))],
)
def test_grids_of_well_known_sizes(width: int, height: int, grid: tuple[int, int]) -> None:
    assert SCHEME.grid(width, height) == Grid(*grid, False)
    assert SCHEME.runs(Grid(*grid, False), width, height)[1] == ("patch", grid[0] * grid[1])


@pytest.mark.parametrize("size", [(1, 201), (4000, 1)])
def test_lines_have_no_grid(size: tuple[int, int]) -> None:
    with pytest.raises(NoGrid, match="more than 200 times"):
        SCHEME.grid(*size)


@pytest.mark.parametrize("size", [(640, 480), (97, 301), (30, 4000), (28, 28), (1, 1), (1700, 1100)])
def test_pixels_equal_those_of_the_processor(size: tuple[int, int]) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    image = photo(11, *size)
    theirs = Qwen2VLImageProcessorPil(do_rescale=False, do_normalize=False)(image, return_tensors="np")
    grid = SCHEME.grid(*size)
    assert theirs["image_grid_thw"].tolist() == [[1, grid.rows * 2, grid.cols * 2]]
    # [tokens, 2 x 2 patches, channels, the image twice as two frames, 14, 14] -> tiles of 28
    patches = theirs["pixel_values"].reshape(-1, 2, 2, 3, 2, 14, 14)[:, :, :, :, 0]
    tiles = patches.transpose(0, 1, 4, 2, 5, 3).reshape(-1, 28, 28, 3)
    np.testing.assert_array_equal(SCHEME.cut(image, grid), tiles)


@pytest.mark.parametrize("options", [{"patch": 0}, {"merge": 0}, {"pixels": (10, 5)}, {"pixels": (0, 5)}])
def test_schemes_that_cannot_be_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        QwenNative(**options)  # type: ignore[arg-type]
