"""InternVL's shape with a SigLIP tower: tiles -> ViT -> pixel shuffle -> projector -> decoder. LLM-jp-4-VL is one.

    tiles [N, S, S, 3] uint8 -> vision tower   -> [N, P, P, v]
                             -> pixel shuffle  -> [N, (P/m)^2, v m^2]
                             -> projector      -> [N, (P/m)^2, d]

The projected features replace the embeddings of the image tokens, tile by tile, in the order of the row. The tower is
read after its last layer and norm.

Letters in names of shapes: N tiles, S side of a tile in pixels, P patches along a side, M image tokens.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from stages.tiles.internvl import InternVL
from stages.tiles.llava15 import Llava15Pad, Llava15Square
from stages.tiles.llmjp4vl import LlmJp4VL
from stages.tiles.scheme import EqualTiles
from train.config import ModelConfig
from train.data.collate import Images
from train.data.shards import Facts
from train.models import language, tower
from train.models.family import Family, described, each_token, refuse, size
from train.models.vision_language import VisionLanguage


def pixel_shuffle(x_NPPv: Tensor, merge: int) -> Tensor:
    """Fold each merge x merge square of patches into one token: [N, P, P, v] -> [N, (P/m)^2, v m^2], row-major."""
    n, side, _, width = x_NPPv.shape
    x = x_NPPv.reshape(n, side // merge, merge, side // merge, merge, width)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, (side // merge) ** 2, merge * merge * width)


class InternVLSiglip(VisionLanguage):
    def __init__(self, model: ModelConfig, scheme: EqualTiles, vocab_size: int) -> None:
        vision = tower.siglip(model.vision, model.vision.num_layers, scheme.tile, scheme.patch)
        shuffled, hidden = model.vision.hidden_size * scheme.merge**2, model.language.hidden_size
        projector = nn.Sequential(
            nn.LayerNorm(shuffled), nn.Linear(shuffled, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        super().__init__(vision, projector, language.make(model.language, vocab_size))
        self.merge = scheme.merge

    def features(self, images: Images) -> Tensor:
        patches = self.vision(pixel_values=tower.siglip_pixels(images.tiles, self.dtype)).last_hidden_state
        side = round(patches.shape[1] ** 0.5)
        x_NPPv = patches.reshape(patches.shape[0], side, side, patches.shape[2])
        projected: Tensor = self.projector(pixel_shuffle(x_NPPv, self.merge))
        return projected.flatten(0, 1)


def _make(model: ModelConfig, facts: Facts, vocab_size: int) -> InternVLSiglip:
    assert isinstance(facts.scheme, EqualTiles)
    refuse(model.vision, "model.vision", FAMILY.name, "feature_layers")
    refuse(model.language, "model.language", FAMILY.name, "extra_vocab_size")
    refuse(model, "model", FAMILY.name, "projector_size")
    return InternVLSiglip(model, facts.scheme, vocab_size)


def _tile_cost(made: VisionLanguage, facts: Facts) -> float:
    assert isinstance(facts.scheme, EqualTiles)
    patches = (facts.scheme.tile // facts.scheme.patch) ** 2
    return float(size(made.vision.encoder) * patches + size(made.projector) * facts.scheme.tokens_per_tile)


def _describe(made: VisionLanguage, model: ModelConfig, facts: Facts) -> dict[str, Any]:
    assert isinstance(facts.scheme, EqualTiles)
    head = any(name.startswith("vision.head.") for name in made.unread)
    return {
        "model_type": "llmjpvl",
        "architectures": ["LLMjpVLModel"],
        "vision_config": described(made.vision, vision_use_head=head),
        "llm_config": described(made.language),
        "tie_word_embeddings": model.language.tie_embeddings,
        "img_context_token_id": facts.image_token_id,
        "downsample_ratio": 1 / facts.scheme.merge,
        "select_layer": -1,
    }


FAMILY = Family(
    name="internvl_siglip",
    reads=(InternVL, LlmJp4VL, Llava15Square, Llava15Pad),
    make=_make,
    names=(
        ("vision_backbone.vision_model.", "vision."),
        ("mlp1.", "projector."),
        ("language_model.", "language."),
    ),
    describe=_describe,
    tile_cost=_tile_cost,
    projector_flops=each_token,
    decoder="language_model.model",
)
