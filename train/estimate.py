"""What a model takes: FLOPs of a run, bytes on a device. From its modules on the meta device, so nothing is made.

FLOPs are those of train/models/flops.py, three times: once forward, twice backward, nothing computed twice.

Bytes are an estimate: weights, gradients and moments are exact for float32; activations are what the linear layers of
one pack read and write, kept for the backward pass, with nothing recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from train.config import Config
from train.data.realised import Amounts, Packing
from train.data.shards import Facts
from train.models import build
from train.models.flops import count
from train.models.vision_language import VisionLanguage

_BYTES = 4  # float32


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


def shell(config: Config, facts: Facts) -> VisionLanguage:
    """The model without its numbers."""
    with torch.device("meta"):
        return build.build(config.model, facts)


def flops(model: VisionLanguage, config: Config, facts: Facts, run: Amounts) -> float:
    """Forward (train/models/flops.py), and twice that backward."""
    of = count(model, config.model, facts)
    tokens, pairs = float(run.tokens.sum()), float((run.squares.sum() + run.tokens.sum()) / 2)
    tiles = (of.tile_vision + of.tile_projector) * float(run.tiles.sum())
    return 3 * (tiles + of.token * tokens + of.pair * pairs + of.target * float(run.targets.sum()))


def memory(model: VisionLanguage, config: Config, facts: Facts, run: Amounts, packs: Packing) -> Memory:
    sizes = [parameter.numel() for parameter in model.parameters()]
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    moments = 2 * sum(sizes) - (matrices if config.optimiser.matrices == "muon" else 0)
    tokens = config.data.max_tokens_per_pack
    targets = tokens * float(run.targets.sum()) / float(run.tokens.sum())
    text = sum(width for width, vision in _widths(model, facts) if not vision)
    vision = sum(width for width, vision in _widths(model, facts) if vision)
    embeddings: Any = model.vision.embeddings
    kept = text * tokens + vision * packs.most_tiles * embeddings.num_positions + 2 * facts.vocab_size * targets
    packs_at_once = config.run.threads
    return Memory(*(_BYTES * int(number) for number in (sum(sizes), sum(sizes), moments, packs_at_once * kept)))


def _widths(model: nn.Module, facts: Facts) -> Iterator[tuple[int, bool]]:
    """Of every linear layer what it reads and writes of a token, and whether it is one of vision."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.out_features < facts.vocab_size:
            yield module.in_features + module.out_features, "vision" in name
