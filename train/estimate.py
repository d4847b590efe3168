"""What a model takes: FLOPs of a run, bytes on a device. From its modules on the meta device, so nothing is made.

FLOPs are the model's (forward and backward of everything, nothing computed twice): matrix products of the layers, as
the planner's costs have them, attention between the tokens of a sample halved where it is causal, and the head at
target positions only. A multiply-add is two.

Bytes are an estimate: weights, gradients and moments are exact for float32; activations are what the linear layers of
one pack read and write, kept for the backward pass, with nothing recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from train.config import Config
from train.data.realised import Amounts, Packing
from train.data.shards import Facts
from train.models import build

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


def shell(config: Config, facts: Facts) -> nn.Module:
    """The model without its numbers."""
    with torch.device("meta"):
        return build.build(config.model, facts)


def flops(model: nn.Module, config: Config, facts: Facts, run: Amounts) -> float:
    token_cost, tile_cost = build.costs(config.model, facts)
    tokens, tiles = float(run.tokens.sum()), float(run.tiles.sum())
    causal = sum(width for width, is_causal in _attentions(model) if is_causal)
    full = sum(width for width, is_causal in _attentions(model) if not is_causal)
    attention = 6.0 * causal * float(run.squares.sum()) + 12.0 * full * tiles * _patches(facts) ** 2
    head = _head(model, facts)
    return tokens * token_cost + tiles * tile_cost + attention + 6.0 * head * float(run.targets.sum())


def memory(model: nn.Module, config: Config, facts: Facts, run: Amounts, packs: Packing) -> Memory:
    sizes = [parameter.numel() for parameter in model.parameters()]
    matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    moments = 2 * sum(sizes) - (matrices if config.optimiser.matrices == "muon" else 0)
    tokens = config.data.max_tokens_per_pack
    targets = tokens * float(run.targets.sum()) / float(run.tokens.sum())
    text = sum(width for width, vision in _widths(model, facts) if not vision)
    vision = sum(width for width, vision in _widths(model, facts) if vision)
    kept = text * tokens + vision * packs.most_tiles * _patches(facts) + 2 * facts.vocab_size * targets
    packs_at_once = config.run.threads
    return Memory(*(_BYTES * int(number) for number in (sum(sizes), sum(sizes), moments, packs_at_once * kept)))


def _patches(facts: Facts) -> int:
    """Of a tile."""
    scheme = build.tiles(facts)
    return (scheme.tile // scheme.patch) ** 2


def _attentions(model: nn.Module) -> Iterator[tuple[int, bool]]:
    """Of every attention the width of its queries, and whether it is causal."""
    for module in model.modules():
        if isinstance(query := getattr(module, "q_proj", None), nn.Linear):
            yield query.out_features, bool(getattr(module, "is_causal", False))


def _head(model: nn.Module, facts: Facts) -> int:
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features >= facts.vocab_size]
    return sum(head.in_features * head.out_features for head in heads[:1])


def _widths(model: nn.Module, facts: Facts) -> Iterator[tuple[int, bool]]:
    """Of every linear layer what it reads and writes of a token, and whether it is one of vision."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.out_features < facts.vocab_size:
            yield module.in_features + module.out_features, "vision" in name
