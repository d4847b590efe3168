"""Pixels equal transformers' processors of CLIP and of LLaVA; there is one tile, whatever the size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.tiles.llava15 import Llava15Pad, Llava15Square
from stages.tiles.scheme import Grid
from tests.stages.pictures import photo

SIZES = [
    (640, 480),
    (480, 640),
    (336, 336),
    (500, 337),
    (97, 301),
    (1, 1),
    (1, 40),
    (3, 2),
    (1700, 1111),
    (2000, 90),
    (640, 427),
]
RAW: dict[str, Any] = {"do_rescale": False, "do_normalize": False}


def by(processor: Any, image: Image.Image) -> np.ndarray:
    """[side, side, 3] of one image."""
    found: np.ndarray = processor(image, return_tensors="np")["pixel_values"][0]
    return found.transpose(1, 2, 0)


@pytest.mark.parametrize("size", SIZES)
def test_the_square_equals_clip(size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    theirs = CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, **RAW)
    image = photo(5, *size)
    tiles = Llava15Square().cut(image, Grid(1, 1, False))
    np.testing.assert_array_equal(tiles[0], by(theirs, image))


@pytest.mark.parametrize("size", SIZES)
def test_the_padded_square_equals_llava(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    options = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}, "do_pad": True}
    image = photo(6, *size)
    theirs = by(LlavaImageProcessorPil(**options, **RAW), image)
    np.testing.assert_array_equal(Llava15Pad().cut(image, Grid(1, 1, False))[0], theirs)
    monkeypatch.setattr("stages.tiles.llava15._STRIP", 700)  # many strips are one
    np.testing.assert_array_equal(Llava15Pad().cut(image, Grid(1, 1, False))[0], theirs)


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (70_000, 2), (1, 300_000)])
def test_lines_of_pixels_take_no_gigabytes(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (9, 200, 30))
    square = Llava15Square().cut(image, Grid(1, 1, False))
    assert square.shape == (1, 336, 336, 3) and (square == (9, 200, 30)).all()
    padded = Llava15Pad().cut(image, Grid(1, 1, False))
    assert padded.shape == (1, 336, 336, 3) and (padded[0, 0, 0] == (122, 116, 104)).all()


def test_the_middle_of_a_long_image_is_near_the_rule() -> None:
    """Beyond the ratio up to which the whole image is resized."""
    image = photo(7, 6600, 100)
    whole = np.asarray(image.resize((22_176, 336), Image.Resampling.BICUBIC))[:, 10_920 : 10_920 + 336]
    found = Llava15Square().cut(image, Grid(1, 1, False))[0]
    assert np.abs(found.astype(int) - whole).max() <= 2


@pytest.mark.parametrize("kind", [Llava15Square, Llava15Pad])
def test_an_image_is_576_tokens(kind: type[Llava15Square | Llava15Pad]) -> None:
    assert kind().grid(5000, 3) == Grid(1, 1, False)
    assert kind().runs(Grid(1, 1, False), 5000, 3) == (("start", 1), ("patch", 576), ("end", 1))
    with pytest.raises(ValueError, match="at least 1 x 1"):
        kind().grid(0, 5)
    with pytest.raises(ValueError, match="open_rgb"):
        kind().cut(Image.new("L", (64, 64)), Grid(1, 1, False))
