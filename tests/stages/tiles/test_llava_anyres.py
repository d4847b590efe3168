"""Grids, tokens and tiles equal transformers' processor of LLaVA-NeXT, lines and their ends its model."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.tiles.llava_anyres import LlavaAnyres
from stages.tiles.scheme import Grid, Scheme, count
from tests.stages.pictures import photo
from tests.stages.tiles.sizes import sizes, some

SCHEME = LlavaAnyres()
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def test_a_hundred_thousand_grids_and_counts_equal_transformers() -> None:
    from transformers.image_processing_utils import select_best_resolution
    from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

    ask, unpadded = select_best_resolution, LlavaNextProcessor._get_unpadded_features
    widths, heights = sizes()
    found = SCHEME.grids(widths, heights)
    wanted = []
    for width, height in zip(widths.tolist(), heights.tolist(), strict=True):
        down, across = ask((height, width), PINPOINTS)
        features, newlines = unpadded(None, height, width, 24, 24, down // 336, across // 336)
        wanted.append((down // 336, across // 336, features + 576, newlines))
    ours = np.stack([found.rows, found.cols, found.num_patches, found.num_rows], 1)
    np.testing.assert_array_equal(ours, np.array(wanted))


def test_counts_equal_those_that_the_processor_writes() -> None:
    from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

    processor = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=PINPOINTS),
        patch_size=14,
        num_additional_image_tokens=1,
        _get_unpadded_features=partial(LlavaNextProcessor._get_unpadded_features, None),
    )
    for width, height in some(2000):
        theirs = LlavaNextProcessor._get_number_of_features(processor, height, width, 336, 336) - 1  # without CLS
        runs = SCHEME.runs(SCHEME.grid(width, height), width, height)
        assert count(runs, "patch", "row") == theirs, (width, height)


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [(640, 480, 2340), (1920, 1080, 1948), (1240, 1754, 2256), (336, 336, 1176), (1344, 1344, 2928), (1, 4000, 600)],
)
def test_counts_of_well_known_sizes(width: int, height: int, tokens: int) -> None:
    assert count(SCHEME.runs(SCHEME.grid(width, height), width, height), "patch", "row") == tokens


@pytest.mark.parametrize("size", [(640, 480), (97, 301), (1500, 400), (336, 336), (2, 700), (300, 2900)])
def test_lines_equal_those_that_the_model_packs(size: tuple[int, int]) -> None:
    """Features that tell their place, and a newline that no feature is, go through the model's own function."""
    import torch
    from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

    grid = SCHEME.grid(*size)
    config = SimpleNamespace(
        vision_config=SimpleNamespace(image_size=336, patch_size=14), image_grid_pinpoints=PINPOINTS
    )
    features = torch.arange(grid.num_tiles * 576.0).reshape(grid.num_tiles, 576, 1)
    packed, _ = LlavaNextModel.pack_image_features(
        SimpleNamespace(config=config), [features], torch.tensor([size[::-1]]), "default", torch.tensor([-1.0])
    )
    kinds = ["row" if value < 0 else "patch" for value in packed[0][:, 0].tolist()]
    runs = SCHEME.runs(grid, *size)
    assert (runs[0], runs[-1]) == (("start", 1), ("end", 1))
    assert [kind for kind, number in runs[1:-1] for _ in range(number)] == kinds


@pytest.mark.parametrize("size", [(640, 480), (97, 301), (1500, 400), (336, 336), (1, 1), (2, 700), (701, 1003)])
def test_tiles_equal_those_of_the_processor(size: tuple[int, int]) -> None:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, do_rescale=False, do_normalize=False
    )
    image = photo(10, *size)
    theirs = processor(image, return_tensors="np")["pixel_values"][0].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(SCHEME.cut(image, SCHEME.grid(*size)), theirs)


@given(
    st.integers(1, 5000), st.integers(1, 5000), st.lists(st.tuples(*[st.integers(1, 4)] * 2), min_size=1, max_size=6)
)
def test_any_pinpoints_are_chosen_from_as_transformers_does(
    width: int, height: int, pinpoints: list[tuple[int, int]]
) -> None:
    from transformers.image_processing_utils import select_best_resolution

    scheme: Scheme = LlavaAnyres(pinpoints=tuple(pinpoints))
    down, across = select_best_resolution((height, width), [[rows * 336, cols * 336] for rows, cols in pinpoints])
    assert scheme.grid(width, height) == Grid(down // 336, across // 336, True)
    found = scheme.grids(np.array([width]), np.array([height]))
    assert (found.rows[0], found.cols[0]) == (down // 336, across // 336)


@pytest.mark.parametrize("options", [{"tile": 337}, {"patch": 0}, {"pinpoints": ()}, {"pinpoints": ((1, 0),)}])
def test_schemes_that_cannot_be_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LlavaAnyres(**options)  # type: ignore[arg-type]
