"""The tiling of LLM-jp-4-VL: InternVL's rule on 512-pixel tiles, within the tokens that a conversation's text leaves.

Of `context` tokens the images share equally what the text leaves. An image that may take N tokens gets a grid of at
most (N - 2) // 256 - 1 tiles, the 2 being its frame and the 1 its thumbnail; at least 1 and at most `max_tiles`. With
one image the text may have 766 tokens before its grid shrinks. Cut as InternVL does, the thumbnail last.

Source of the algorithm: llm-jp/llm-jp-4-vl, finetune/dataset.py (since commit 3513118). There the text is the whole
conversation in training and the prompt in inference, the placeholders of its images taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from stages.tiles.cut import stretch
from stages.tiles.nearest import all_nearest, nearest
from stages.tiles.scheme import EqualTiles, Grid, Grids, Size, check_size

_FRAME = 2


@dataclass(frozen=True)
class LlmJp4VL(EqualTiles):
    """At most `max_tiles` tiles of `tile` pixels and a thumbnail; a conversation has `context` tokens."""

    scheme: Literal["llmjp4vl"] = "llmjp4vl"
    tile: int = 512
    patch: int = 16
    merge: int = 2
    max_tiles: int = 12
    context: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.max_tiles, self.context) < 1:
            raise ValueError(f"max_tiles and context must be at least 1, got {self.max_tiles} and {self.context}")

    def grid(self, width: int, height: int) -> Grid:
        return self._within(width, height, self.max_tiles)

    def grid_within(self, width: int, height: int, tokens: int) -> Grid:
        """The grid of an image that may take so many tokens, its frame among them; never less than one tile."""
        return self._within(width, height, self._tiles_in(tokens))

    def grids_of(self, sizes: Sequence[Size], count_text: Callable[[], int]) -> list[Grid]:
        if not sizes:
            return []
        each = (self.context - count_text()) // len(sizes)
        return [self.grid_within(*size, each) for size in sizes]

    def possible(self, width: int, height: int) -> Collection[Grid]:
        return {self._within(width, height, most) for most in range(1, self.max_tiles + 1)}

    def grids(self, widths: np.ndarray, heights: np.ndarray) -> Grids:
        rows, cols = all_nearest(widths, heights, self.tile, self.max_tiles)
        return self._all(rows, cols, rows * cols > 1)

    def grids_within(self, widths: np.ndarray, heights: np.ndarray, tokens: np.ndarray) -> Grids:
        """`grid_within` for arrays of sizes, and of the tokens that each may take."""
        most = np.clip((tokens - _FRAME) // self.tokens_per_tile - 1, 1, self.max_tiles)
        rows, cols = np.ones(len(widths), np.int64), np.ones(len(widths), np.int64)
        for tiles in range(2, self.max_tiles + 1):
            some = np.flatnonzero(most == tiles)
            rows[some], cols[some] = all_nearest(widths[some], heights[some], self.tile, tiles)
        return self._all(rows, cols, rows * cols > 1)

    def cut_into(self, tiles: np.ndarray, image: Image.Image, grid: Grid) -> None:
        stretch(tiles, image, grid)

    def _within(self, width: int, height: int, most: int) -> Grid:
        check_size(width, height)
        rows, cols = nearest(width, height, self.tile, most)
        return Grid(rows, cols, rows * cols > 1)

    def _tiles_in(self, tokens: int) -> int:
        return min(max((tokens - _FRAME) // self.tokens_per_tile - 1, 1), self.max_tiles)
