"""The configs of published systems: they load, their models have the published sizes, their rates the published course.

Tile scheme and tokens come from the recipe of the same name, so the two fit each other. Models are built on the meta
device in their real sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas import strict, yaml_file
from schemas.fingerprints import Fingerprints
from stages.chat import ImageTokens
from stages.chat_rules import DEFAULTS
from stages.tiles.table import TileScheme
from train import config
from train.config import PARTS, Config
from train.data.shards import Facts
from train.models import build
from train.models.parts import part_of
from train.models.vision_language import VisionLanguage
from train.optim.schedule import learning_rate

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs" / "train").glob("*.yaml"))
NAMES = [path.stem for path in CONFIGS]
QWEN3_4B, LLM_JP_4_8B, QWEN3_17B = 4_022_468_096, 8_590_200_832, 1_720_574_976
CLIP = 303_507_456 - 12_596_224 - 2 * 1024  # without its last layer and norm
SIGLIP_BLOCK = 4 * (1152**2 + 1152) + 2 * 1152 * 4304 + 4304 + 1152 + 4 * 1152
SIGLIP_16 = 27 * SIGLIP_BLOCK + (3 * 16**2 + 1 + 32**2) * 1152 + 2 * 1152  # without its head
SIGLIP_14 = 25 * SIGLIP_BLOCK + (3 * 14**2 + 1 + 27**2) * 1152  # and of 27 blocks the 25 that are run
TABLE_17B = 151_936 * 2048
JINA_PROJECTOR = 2304 * 1152 + 2304**2 + 1152**2 + 2 * 1152 * 6144 + 6144 * 2048 + 1152 + 2304 + 1152 + 2 * 2304


@dataclass(frozen=True)
class Told:
    """What a recipe says of tiles."""

    tiles: TileScheme


def loaded(name: str) -> Config:
    return config.load(ROOT / "configs" / "train" / f"{name}.yaml")


def facts(name: str) -> Facts:
    section = yaml_file.read(ROOT / "configs" / "recipes" / f"{name}.yaml")["data"]["pretokenise"]
    tokens = strict.build(ImageTokens, section["tokens"], "tokens")
    image = tokens.ids[tokens.image]
    scheme: Any = strict.build(Told, {"tiles": section["tiles"]}).tiles
    return Facts(scheme, tokens, DEFAULTS, image, max(tokens.ids.values()) + 1, Fingerprints("", ""))


def shell(name: str) -> VisionLanguage:
    of = loaded(name)
    return build.shell(of.model, facts(name), of.optimiser)


def sizes(made: VisionLanguage, learning: bool = False) -> dict[str, int]:
    """Parameters by part; of those that learn alone."""
    found = dict.fromkeys(PARTS, 0)
    for name, parameter in made.named_parameters():
        found[part_of(name)] += parameter.numel() if parameter.requires_grad or not learning else 0
    return found


def test_there_is_one_for_each_recipe_with_images() -> None:
    recipes = {path.stem for path in (ROOT / "configs" / "recipes").glob("*.yaml")}
    assert set(NAMES) == recipes - {"llm-jp-4-text"}


@pytest.mark.parametrize("name", NAMES)
def test_each_says_its_command_and_what_to_expect(name: str) -> None:
    head = (ROOT / "configs" / "train" / f"{name}.yaml").read_text(encoding="utf-8").partition("\ndata:")[0]
    out = loaded(name).data.shards
    assert f"-m pipeline run configs/recipes/{name}.yaml --out {out} " in head
    assert f"-m train fit configs/train/{name}.yaml" in head
    assert all(f"\n# {word}" in head for word in ("Published: ", "Expected time: ", "Not "))


@pytest.mark.parametrize(
    ("name", "vision", "projector", "language"),
    [
        ("vqwen3-stage1", CLIP, 9_180_160, QWEN3_4B),
        ("vqwen3-stage2", CLIP, 9_180_160, QWEN3_4B + 57_344 * 128 * 36),
        ("llm-jp-4-vl", SIGLIP_16, 35_668_992, LLM_JP_4_8B),
        ("jina-vlm-align", SIGLIP_14, JINA_PROJECTOR, QWEN3_17B + TABLE_17B + 128 * 2048),
        ("jina-vlm-instruct", SIGLIP_14, JINA_PROJECTOR, QWEN3_17B + TABLE_17B + 128 * 2048),
    ],
)
def test_the_parts_have_their_published_sizes(name, vision, projector, language) -> None:
    assert sizes(shell(name)) == {"vision": vision, "projector": projector, "language": language}


def test_vqwen3_learns_its_projector_and_then_adapters_too() -> None:
    assert sizes(shell("vqwen3-stage1"), learning=True) == {"vision": 0, "projector": 9_180_160, "language": 0}
    second = {"vision": 0, "projector": 9_180_160, "language": 264_241_152}
    assert sizes(shell("vqwen3-stage2"), learning=True) == second


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("vqwen3")])
def test_in_the_others_everything_learns(name: str) -> None:
    made = shell(name)
    assert sizes(made, learning=True) == sizes(made)


@pytest.mark.parametrize("names", [("vqwen3-stage1", "vqwen3-stage2"), ("jina-vlm-align", "jina-vlm-instruct")])
def test_a_second_stage_begins_where_the_first_ends(names: tuple[str, str]) -> None:
    first, second = map(loaded, names)
    assert second.model.from_ == first.run.out != second.run.out
    assert second.data.shards != first.data.shards
    assert facts(names[0]).tokens == facts(names[1]).tokens


RATES = {
    # part, steps in all, and rates: step -> share of the highest, which is published
    ("vqwen3-stage1", "projector", 2181): (1e-3, {65: 1.0, 32: 0.5, 2180: 0.0}),
    ("vqwen3-stage2", "projector", 5198): (2e-5, {155: 1.0, 5197: 0.0}),
    ("vqwen3-stage2", "language", 5198): (2e-4, {155: 1.0, 5197: 0.0}),
    ("llm-jp-4-vl", "vision", 90_000): (2e-5, {999: 0.5, 1999: 1.0, 72_000: 1.0, 81_000: 0.5, 89_999: 0.0}),
    ("llm-jp-4-vl", "language", 90_000): (2e-5, {1999: 1.0, 81_000: 0.5}),
    ("llm-jp-4-vl", "projector", 90_000): (1e-4, {1999: 1.0, 81_000: 0.5}),
    ("jina-vlm-align", "vision", 25_000): (6e-6, {2499: 1.0, 1249: 0.5, 24_999: 0.1}),
    ("jina-vlm-align", "projector", 25_000): (2e-4, {249: 1.0, 124: 0.5, 24_999: 0.1}),
    ("jina-vlm-align", "language", 25_000): (2e-5, {2499: 1.0, 24_999: 0.1}),
    ("jina-vlm-instruct", "vision", 60_000): (5e-6, {5999: 1.0, 59_999: 0.1}),
    ("jina-vlm-instruct", "projector", 60_000): (5e-6, {5999: 1.0, 2999: 0.5, 59_999: 0.1}),
    ("jina-vlm-instruct", "language", 60_000): (1e-5, {5999: 1.0, 59_999: 0.1}),
}


@pytest.mark.parametrize(("name", "part", "total"), RATES)
def test_the_rates_run_as_published(name: str, part: str, total: int) -> None:
    highest, shares = RATES[name, part, total]
    of = loaded(name).optimiser.of(part)
    found = {step: learning_rate(of, step, total) / highest for step in shares}
    assert found == pytest.approx(shares, abs=0.01)


@pytest.mark.parametrize(
    ("name", "batch", "steps", "betas", "eps"),
    [
        ("vqwen3-stage1", 256, None, (0.9, 0.999), 1e-8),
        ("vqwen3-stage2", 128, None, (0.9, 0.999), 1e-8),
        ("jina-vlm-align", 128, 25_000, (0.9, 0.95), 1e-6),
        ("jina-vlm-instruct", 256, 60_000, (0.9, 0.95), 1e-6),
        ("llm-jp-4-vl", 1113, 90_000, (0.9, 0.95), 1e-8),
    ],
)
def test_steps_and_optimisers_are_the_published_ones(name, batch, steps, betas, eps) -> None:
    of = loaded(name)
    told = of.data.steps or sum(phase.steps for phase in of.data.schedule) or None
    assert (of.data.batch_size, told) == (batch, steps) and of.data.epochs == (None if steps else 1)
    assert (of.optimiser.betas, of.optimiser.eps, of.optimiser.matrices) == (betas, eps, "adamw")
