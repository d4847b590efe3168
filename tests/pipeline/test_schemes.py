"""A recipe of each tile scheme runs to shards that `verify` proves and that the trainer cuts tiles from."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.steps.shard_check import check_shards
from schemas.manifest import read
from stages.tiles.scheme import count
from tests.pipeline.conftest import MakeRecipe, run
from train.data.collate import collate
from train.data.shards import Shards

SCHEMES: list[dict[str, Any]] = [
    {"scheme": "llmjp4vl", "tile": 16, "patch": 4, "context": 130},
    {"scheme": "llava15-square", "tile": 16, "patch": 4},
    {"scheme": "llava15-pad", "tile": 16, "patch": 4},
    {"scheme": "llava-anyres", "tile": 16, "patch": 4, "pinpoints": [[1, 2], [2, 1]]},
    {"scheme": "jina", "tile": 20, "patch": 2, "margin": 2, "max_tiles": 3, "pixels": [1, 10_000]},
    {"scheme": "qwen-native", "patch": 4, "pixels": [64, 512]},
]


@pytest.mark.parametrize(
    ("tiles", "row"),
    [(tiles, row) for tiles in SCHEMES for row in ("<row>", None) if row or tiles["scheme"] != "jina"],
)
def test_a_recipe_of_each_scheme_makes_sound_shards(
    tiles: dict[str, Any], row: str | None, tiny_recipe: MakeRecipe
) -> None:
    def edit(recipe: dict[str, Any]) -> None:
        params = recipe["data"]["pretokenise"]
        params["tiles"], params["max_tokens"] = tiles, 600
        params["tokens"]["row"] = row

    context, steps = run(tiny_recipe(edit))
    folder = context.out / steps[-1].folder
    check_shards(folder, read(folder))
    opened = Shards(folder)
    samples = [opened.sample(number) for number in range(len(opened))]
    pack, scheme = collate(samples, opened.facts), opened.facts.scheme
    spans = [span for sample in samples for span in sample.image_spans]
    runs = [scheme.runs(span.grid, span.width, span.height) for span in spans]
    assert len(spans) > 5 and len(pack.tiles) == sum(span.grid.num_tiles for span in spans)
    wanted = [count(one, "patch") if row else count(one, "patch", "row") for one in runs]
    assert len(pack.image_positions) == sum(wanted)
