"""The tile counts of LLM-jp-4-VL, and grids within the tokens that a text leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.tiles.internvl import InternVL
from stages.tiles.llmjp4vl import LlmJp4VL
from stages.tiles.scheme import Grid, count
from tests.stages.pictures import photo
from tests.stages.tiles.sizes import sizes, some

SCHEME = LlmJp4VL()
SIDES = st.integers(1, 20_000)


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
    assert SCHEME.grid(width, height).num_tiles == tiles


def test_a_page_is_two_columns_of_three() -> None:
    assert SCHEME.grid(1240, 1754) == Grid(rows=3, cols=2, thumbnail=True)
    assert SCHEME.grid(1920, 1080) == Grid(rows=2, cols=4, thumbnail=True)


def most_tiles(context: int, text: int, images: int) -> int:
    """max_num of finetune/dataset.py, restated."""
    return min(12, max(1, ((context - text) // images - 2) // 256 - 1))


@pytest.mark.parametrize(
    ("text", "images", "most"),
    [(0, 1, 12), (766, 1, 12), (767, 1, 11), (4000, 1, 1), (9000, 1, 1), (0, 2, 6), (0, 4, 2)],
)
def test_the_text_leaves_so_many_tiles(text: int, images: int, most: int) -> None:
    assert most_tiles(4096, text, images) == most
    for width, height in [(1024, 768), (768, 1024), (5000, 100), (2048, 2048), (600, 500)]:
        grids = SCHEME.grids_of([(width, height)] * images, lambda: text)
        assert grids == [Grid(*InternVL(tile=512, patch=16, max_tiles=most).grid(width, height))] * images


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5), st.integers(0, 5000), st.integers(1, 9000))
def test_images_fit_beside_the_text_or_are_one_tile_each(sizes: list[tuple[int, int]], text: int, context: int) -> None:
    scheme = LlmJp4VL(context=context)
    grids = scheme.grids_of(sizes, lambda: text)
    tokens = sum(
        count(scheme.runs(grid, *size), "start", "patch", "end") for grid, size in zip(grids, sizes, strict=True)
    )
    assert all(grid in scheme.possible(*size) for grid, size in zip(grids, sizes, strict=True))
    assert text + tokens <= context or any(grid.rows * grid.cols == 1 for grid in grids)


def test_a_text_without_images_is_not_counted() -> None:
    assert SCHEME.grids_of([], lambda: pytest.fail("counted")) == []


def test_arrays_within_arrays_of_tokens_equal_one_at_a_time() -> None:
    pairs, rng = some(3000), np.random.default_rng(1)
    tokens = rng.integers(-50, 4500, len(pairs))
    found = SCHEME.grids_within(*np.array(pairs).T, tokens)
    grids = [SCHEME.grid_within(*size, int(n)) for size, n in zip(pairs, tokens, strict=True)]
    assert list(zip(found.rows, found.cols, found.thumbnail, strict=True)) == grids
    widths, heights = sizes(3000)
    for most in range(1, 13):
        room = np.full(len(widths), 2 + 256 * (most + 1))
        whole = InternVL(tile=512, patch=16, max_tiles=most).grids(widths, heights)
        for one, other in zip(SCHEME.grids_within(widths, heights, room), whole, strict=True):
            np.testing.assert_array_equal(one, other)


def test_pixels_are_cut_as_internvl_does() -> None:
    image, grid = photo(3, 700, 300), SCHEME.grid(700, 300)
    np.testing.assert_array_equal(SCHEME.cut(image, grid), InternVL(tile=512, patch=16).cut(image, grid))


@pytest.mark.parametrize("options", [{"max_tiles": 0}, {"context": 0}])
def test_schemes_that_cannot_be_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LlmJp4VL(**options)
