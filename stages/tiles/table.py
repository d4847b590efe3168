"""The tile schemes that stand. A new one is a file beside this one and a member of the union here.

The pipeline counts tiles by these schemes, the trainer and inference cut them: whatever asks for one asks here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.manifest import ManifestError
from schemas.strict import RecipeError, build
from stages.tiles.internvl import InternVL
from stages.tiles.jina import Jina
from stages.tiles.llava15 import Llava15Pad, Llava15Square
from stages.tiles.llava_anyres import LlavaAnyres
from stages.tiles.llmjp4vl import LlmJp4VL
from stages.tiles.qwen_native import QwenNative

TileScheme = InternVL | LlmJp4VL | Llava15Square | Llava15Pad | LlavaAnyres | Jina | QwenNative


@dataclass(frozen=True)
class _Facts:
    tiles: TileScheme


def recorded(tiles: Any) -> TileScheme:
    """The scheme that shards were made by, from the fact `tiles` of their manifest. Raises ManifestError."""
    try:
        return build(_Facts, {"tiles": tiles}, "facts").tiles
    except RecipeError as error:
        raise ManifestError(f"{error}; these shards are of another version, write them again") from None
