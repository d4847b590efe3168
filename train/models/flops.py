"""The floating-point operations of a model, by part: what a model has to do, however it does it.

A multiplication with its addition is two. Counted are matrix products, the patches' embedding and attention; not
norms, activations and tables. Attention is causal in the decoder, so half of its pairs; the head is counted at targets
alone; of the experts those that a token goes to; of the tower the layers that are run. A backward pass takes as much
again for what is passed on, where anything before is trained, and as much for the weights that are trained.

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
    """Of one tile, one token, one pair of a token and one that it may look at, and one target."""

    tile_vision: float
    tile_projector: float
    token: float
    pair: float
    target: float

    def parts(self, lengths: Sequence[int], targets: int, tiles: int) -> dict[str, float]:
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


def training(made: VisionLanguage, model: ModelConfig, facts: Facts) -> Flops:
    """Forward and backward, by which parameters ask for a gradient; nothing computed twice."""
    of, language = count(made, model, facts), model.language
    share = (language.experts_per_token or 1) / (language.num_experts or 1)
    vision, projector = _trained(made.vision), _trained(made.projector)
    layers, head = _trained(made.decoder.layers, share), _trained(made.language.lm_head)
    table = any(p.requires_grad for p in made.decoder.embed_tokens.parameters())  # type: ignore[union-attr]
    through = vision > 0 or projector > 0 or table or layers > 0  # a gradient passes through the decoder
    return Flops(
        tile_vision=of.tile_vision * (1 + vision + (vision > 0)),
        tile_projector=of.tile_projector * (1 + projector + (vision > 0 or projector > 0)),
        token=of.token * (1 + layers + through),
        pair=of.pair * (3 if through else 1),
        target=of.target * (1 + head + through),
    )


def _trained(part: Any, share: float = 1.0) -> float:
    """The share of a part's matrices that are trained."""
    trained = [_entries(p, share) for p in part.parameters() if p.ndim > 1 and p.requires_grad]
    return sum(trained) / max(1.0, _matrices(part, share))


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
    return float(sum(_entries(p, share) for p in layers.parameters() if p.ndim > 1))


def _entries(matrix: Any, share: float) -> float:
    return float(matrix.numel() * (share if matrix.ndim == 3 else 1))
