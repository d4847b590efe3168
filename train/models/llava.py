"""LLaVA 1.5's shape: CLIP -> two linear maps with a GELU between -> decoder; vqwen3 is one with Qwen3.

    tiles [N, S, S, 3] uint8 -> CLIP up to its last but one block -> [N, 1 + P^2, v], the first of them its CLS token
                             -> without CLS                       -> [N, P^2, v]
                             -> projector                         -> [N, P^2, d]

The projected features replace the embeddings of the image tokens. The same as transformers'
LlavaForConditionalGeneration with `vision_feature_layer: -2` and `vision_feature_select_strategy: default`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stages.tiles.llava15 import Llava15Pad, Llava15Square
from train.config import ModelConfig
from train.data.collate import Images
from train.data.shards import Facts
from train.models import language, tower
from train.models.family import Family, ModelError, described, each_token, refuse, size
from train.models.vision_language import VisionLanguage

_LAYERS = (-2,)


class Llava(VisionLanguage):
    def __init__(self, model: ModelConfig, scheme: Llava15Square | Llava15Pad, vocab_size: int) -> None:
        layers = tower.read_layers(model.vision, _LAYERS)
        vision = tower.clip(model.vision, max(layers) + 1, scheme.tile, scheme.patch)
        hidden = model.language.hidden_size
        projector = nn.Sequential(
            nn.Linear(model.vision.hidden_size * len(layers), hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        super().__init__(vision, projector, language.make(model.language, vocab_size))
        self.layers = layers

    def features(self, images: Images) -> Tensor:
        pixels = tower.clip_pixels(images.tiles, self.dtype)
        patches = tower.block_outputs(self.vision, pixels, self.layers)[:, 1:]
        projected: Tensor = self.projector(patches)
        return projected.flatten(0, 1)


def _make(model: ModelConfig, facts: Facts, vocab_size: int) -> Llava:
    assert isinstance(facts.scheme, Llava15Square | Llava15Pad)
    if facts.scheme.merge != 1:
        raise ModelError(
            f"data.shards: their tiles merge {facts.scheme.merge} x {facts.scheme.merge} patches, and model.family "
            "llava reads each patch as a token; write shards with tiles.merge 1"
        )
    refuse(model.language, "model.language", FAMILY.name, "extra_vocab_size")
    refuse(model, "model", FAMILY.name, "projector_size")
    return Llava(model, facts.scheme, vocab_size)


def _tile_cost(made: VisionLanguage, facts: Facts) -> float:
    assert isinstance(facts.scheme, Llava15Square | Llava15Pad)
    patches = facts.scheme.tokens_per_tile
    return float(size(made.vision.encoder) * (patches + 1) + size(made.projector) * patches)


def _describe(made: VisionLanguage, model: ModelConfig, facts: Facts) -> dict[str, Any]:
    assert isinstance(made, Llava) and isinstance(facts.scheme, Llava15Square | Llava15Pad)
    depth = tower.drawn_layers(model.vision, made.layers, made.unread)
    layers = [layer - depth for layer in made.layers]
    return {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "undrawn_layers": model.vision.num_layers - depth,
        "vision_config": described(made.vision, num_hidden_layers=depth),
        "text_config": described(made.language),
        "tie_word_embeddings": model.language.tie_embeddings,
        "image_token_index": facts.image_token_id,
        "image_seq_length": facts.scheme.tokens_per_tile,
        "vision_feature_layer": layers[0] if len(layers) == 1 else layers,
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
    }


def _lacks(made: VisionLanguage) -> dict[str, Tensor]:
    """The norm of CLIP's summary."""
    width: int = described(made.vision)["hidden_size"]
    return {"vision.post_layernorm.weight": torch.ones(width), "vision.post_layernorm.bias": torch.zeros(width)}


FAMILY = Family(
    name="llava",
    reads=(Llava15Square, Llava15Pad),
    make=_make,
    # As published and as other programs read them; then as transformers has them in memory
    names=(
        ("vision_tower.vision_model.", "vision."),
        ("vision_tower.", "vision."),
        ("multi_modal_projector.linear_1.", "projector.0."),
        ("multi_modal_projector.linear_2.", "projector.2."),
        ("language_model.", "language."),
        ("model.vision_tower.", "vision."),
        ("model.multi_modal_projector.linear_1.", "projector.0."),
        ("model.multi_modal_projector.linear_2.", "projector.2."),
        ("model.language_model.", "language.model."),
        ("lm_head.", "language.lm_head."),
    ),
    describe=_describe,
    tile_cost=_tile_cost,
    projector_flops=each_token,
    decoder="model.language_model",
    lacks=_lacks,
)
