"""What a model takes: FLOPs of a run, bytes on a device. From its modules on the meta device, so nothing is made.

FLOPs are those of train/models/flops.py: once forward, once backward for what is passed on to a part that is trained,
and once for the weights of a part that is trained itself. Nothing is counted as computed twice.

Bytes are an estimate: weights, gradients and moments are exact, frozen parts having the first alone, and gradients in
bfloat16 being those of a pack and their sum in float32 (train/distributed/gradient.py); activations are
what the linear layers of one pack read and write, kept for the backward pass. Where layers are recomputed it is what
each of them reads, and one layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from train.config import Config
from train.data.realised import Amounts, Packing
from train.data.shards import Facts
from train.models.flops import training
from train.models.vision_language import VisionLanguage

_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    parameters: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimiser + self.activations


def flops(model: VisionLanguage, config: Config, facts: Facts, run: Amounts) -> float:
    """Forward and backward (train/models/flops.py), as far as something is trained."""
    of = training(model, config.model, facts)
    tokens, pairs = float(run.tokens.sum()), float((run.squares.sum() + run.tokens.sum()) / 2)
    tiles = (of.tile_vision + of.tile_projector) * float(run.tiles.sum())
    return tiles + of.token * tokens + of.pair * pairs + of.target * float(run.targets.sum())


def memory(model: VisionLanguage, config: Config, facts: Facts, run: Amounts, packs: Packing) -> Memory:
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = sum(p.nbytes for p in trained if p.ndim == 2)
    learnt = sum(p.nbytes for p in trained)
    moments = 2 * learnt - (matrices if config.optimiser.matrices == "muon" else 0)
    tokens = config.data.max_tokens_per_pack
    targets = tokens * float(run.targets.sum()) / float(run.tokens.sum())
    embeddings: Any = model.vision.embeddings
    learns = any(p.requires_grad for p in model.vision.parameters())
    patches = packs.most_tiles * embeddings.num_positions if learns else 0
    text, vision = _kept(model, config, facts, "language"), _kept(model, config, facts, "vision")
    kept = text * tokens + vision * patches + 2 * facts.vocab_size * targets
    packs_at_once = config.run.threads
    activations = packs_at_once * int(kept) * _BYTES[config.optimiser.compute]
    gradients = sum(p.nbytes if p.dtype == torch.float32 else p.nbytes + 4 * p.numel() for p in trained)
    return Memory(sum(p.nbytes for p in model.parameters()), gradients, moments, activations)


def _kept(model: VisionLanguage, config: Config, facts: Facts, part: Literal["vision", "language"]) -> int:
    """Numbers kept of a token, or of a patch: what linear layers read and write. The projector's are the decoder's."""
    sizes = getattr(config.model, part)
    modules = [model.vision] if part == "vision" else [model.projector, model.language]
    linear = [x for module in modules for x in module.modules() if isinstance(x, nn.Linear)]
    widths = sum(x.in_features + x.out_features for x in linear if x.out_features < facts.vocab_size)
    if config.run.recompute:
        return int(sizes.hidden_size * sizes.num_layers + widths / sizes.num_layers)
    return widths
