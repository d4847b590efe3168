"""The floating-point operations of a forward pass, by part: what a model has to do, however it does it.

A multiplication with its addition is two. Counted are matrix products, the patches' embedding and attention; not
norms, activations and tables. Attention is causal in the decoder, so half of its pairs; the head is counted at targets
alone; of the experts those that a token goes to; of the tower the layers that are run. A backward pass takes as much
again for what is passed on, and as much for the weights of a part that is trained.

FLOPs in this sense over the time and the hardware's peak are the utilisation (MFU) that published numbers mean;
recomputed layers are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from train.config import ModelConfig
from train.data.shards import Facts
from train.models.families import FAMILIES
from train.models.vision_language import VisionLanguage


@dataclass(frozen=True)
class Flops:
    """Forward, of one tile, one token, one pair of a token and one that it may look at, and one target."""

    tile_vision: float
    tile_projector: float
    token: float
    pair: float
    target: float

    def forward(self, lengths: Sequence[int], targets: int, tiles: int) -> dict[str, float]:
        """By part, of samples of so many tokens each, with so many targets and tiles together."""
        pairs = sum(length * (length + 1) // 2 for length in lengths)
        return {
            "vision": self.tile_vision * tiles,
            "projector": self.tile_projector * tiles,
            "language": self.token * sum(lengths) + self.pair * pairs,
            "head": self.target * targets,
        }


def count(made: VisionLanguage, model: ModelConfig, facts: Facts) -> Flops:
    """Of a model, which may be on the meta device."""
    language = model.language
    share = (language.experts_per_token or 1) / (language.num_experts or 1)
    return Flops(
        tile_vision=_tower(made.vision),
        tile_projector=FAMILIES[model.family].projector_flops(made, facts),
        token=2 * _matrices(made.decoder.layers, share),
        pair=4.0 * language.num_heads * language.width * language.num_layers,
        target=2.0 * made.language.lm_head.weight.numel(),  # type: ignore[union-attr,operator]
    )


def parameters(made: VisionLanguage) -> dict[str, int]:
    """How many each part has; a head that is its embedding once."""
    return {name: sum(p.numel() for p in part.parameters()) for name, part in made.named_children()}


def _tower(tower: Any) -> float:
    """Of one tile."""
    embeddings, layers = tower.embeddings, tower.encoder.layers
    tokens, width = embeddings.num_positions, embeddings.embed_dim
    patches = 2 * embeddings.num_patches * embeddings.patch_embedding.weight.numel()
    return float(patches + 2 * tokens * _matrices(layers, 1.0) + 4 * tokens**2 * width * len(layers))


def _matrices(layers: Any, share: float) -> float:
    """Their entries; of experts, which are stacked, the share that a token goes to."""
    return float(sum(p.numel() * (share if p.ndim == 3 else 1) for p in layers.parameters() if p.ndim > 1))
