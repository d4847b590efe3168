"""Each family of models in its smallest form, with the facts of shards that it reads and samples of text and images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from schemas import strict
from schemas.fingerprints import Fingerprints
from stages.chat import ImageTokens
from stages.chat_rules import DEFAULTS
from stages.tiles.internvl import InternVL
from stages.tiles.jina import Jina
from stages.tiles.llava15 import Llava15Pad
from stages.tiles.scheme import Scheme
from train.config import ModelConfig, OptimiserConfig
from train.data.shards import Facts, ImageSpan, Sample

torch.set_num_threads(1)  # threads that wait for each other cost more than these sizes take

KINDS = {"patch": 30, "row": 31, "start": 32, "end": 33}
TOKENS = ImageTokens("<p>", "<s>", "</s>", "<r>", {"<p>": 30, "<r>": 31, "<s>": 32, "</s>": 33})
SCHEMES: dict[str, Scheme] = {
    "internvl_siglip": InternVL(tile=16, patch=4, merge=2, max_tiles=4),
    "llava": Llava15Pad(tile=16, patch=4),
    "jina": Jina(tile=28, patch=4, margin=2, max_tiles=4),  # 7 patches a side: the last of them is pooled with pads
}
LANGUAGE = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "intermediate_size": 48}
MODELS: dict[str, dict[str, Any]] = {
    "internvl_siglip": {"language": LANGUAGE},
    "internvl_siglip+llama": {"language": {**LANGUAGE, "architecture": "llama", "tie_embeddings": False}},
    "internvl_siglip+qwen3_moe": {
        "language": {**LANGUAGE, "architecture": "qwen3_moe", "num_experts": 4, "experts_per_token": 2},
    },
    "llava": {"language": {**LANGUAGE, "head_dim": 16}},
    "jina": {
        "language": {**LANGUAGE, "tie_embeddings": False, "vocab_size": 30, "extra_vocab_size": 10},
        "projector_size": 40,
    },
}
LAYERS = {"jina": 10}


def config(name: str, **changes: Any) -> ModelConfig:
    """`changes` are keys of the model's section."""
    family = name.partition("+")[0]
    vision = {"hidden_size": 24, "num_layers": LAYERS.get(family, 3), "num_heads": 2, "intermediate_size": 32}
    section = {"family": family, "vision": vision, "init_seed": 1, **MODELS[name], **changes}
    return strict.build(ModelConfig, section, "model")


def facts(name: str) -> Facts:
    scheme: Any = SCHEMES[name.partition("+")[0]]
    return Facts(scheme, TOKENS, DEFAULTS, KINDS["patch"], 34, Fingerprints("", ""))


def sample(of: Facts, seed: int, *sizes: tuple[int, int]) -> Sample:
    """Words, an image of each size, and words after it; the last three words and some before are targets."""
    random = np.random.default_rng(seed)
    ids: list[int] = random.integers(0, 30, 4).tolist()
    spans, images = [], []
    for number, (width, height) in enumerate(sizes):
        grid = of.scheme.grid(width, height)
        runs = of.scheme.runs(grid, width, height)
        own = [KINDS[kind] for kind, count in runs for _ in range(count)]
        spans.append(ImageSpan(grid, width, height, len(ids), len(own)))
        images.append(picture(seed * 10 + number, width, height))
        ids += own + random.integers(0, 30, 5).tolist()
    targets = np.array([[1, 3], [len(ids) - 3, len(ids)]])
    unchanged = np.empty((0, 2), np.int64)
    return Sample(f"s{seed}", np.array(ids), targets, unchanged, tuple(images), tuple(spans))


def picture(seed: int, width: int, height: int) -> bytes:
    """Noise, so that no two patches are alike."""
    random = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (height, width, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def mixed(of: Facts) -> list[Sample]:
    """Text alone, one image, several images of several grids, text again."""
    return [
        sample(of, 1),
        sample(of, 2, (40, 30)),
        sample(of, 3, (16, 16), (60, 20), (30, 90)),
        sample(of, 4, (20, 100)),
        sample(of, 5),
    ]


def shuffled(model: torch.nn.Module) -> None:
    """Weights of ordinary size everywhere: what begins as 0 or 1 would hide a part that is not used."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def settings(**changes: Any) -> OptimiserConfig:
    """How a model learns, but for what is said."""
    known = {"matrices": "adamw", "learning_rate": 0.1, "warmup_steps": 0, "weight_decay": 0.5, "clip": 1.0}
    return strict.build(OptimiserConfig, {**known, "schedule": "cosine", **changes})
