"""What a family of models is: a row of the table in families.py.

reads      the tile schemes of shards that it can be trained from
make       config, facts of the shards and rows of the embedding -> a model, freshly drawn
names      beginnings of the names that weights have in published checkpoints, and here; the first for one of ours is
           the one that is written
fold       weights of a published checkpoint -> the same with the tensors that we have, under whatever names
unfold     the inverse
lacks      what published checkpoints have and a model of random weights has not
describe   what config.json says of a model
tile_cost  parameters that a tile's patches and tokens pass, once for each: the planner's unit
projector_flops  of one tile, forward (flops.py)
decoder    the decoder's name in the class that reads published checkpoints, if its layers are as ours (lora.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from stages.tiles.scheme import EqualTiles, Scheme
from train.config import ModelConfig
from train.data.shards import Facts
from train.models.lazy import Lazies, Lazy, Pairs
from train.models.vision_language import VisionLanguage


class ModelError(ValueError):
    """A model that can't be trained here: one line."""


@dataclass(frozen=True)
class Family:
    name: str
    reads: tuple[type[Scheme], ...]
    make: Callable[[ModelConfig, Facts, int], VisionLanguage]
    names: Pairs
    describe: Callable[[VisionLanguage, ModelConfig, Facts], dict[str, Any]]
    tile_cost: Callable[[VisionLanguage, Facts], float]
    projector_flops: Callable[[VisionLanguage, Facts], float]
    fold: Callable[[Mapping[str, Lazy], ModelConfig], Lazies] = lambda weights, _: dict(weights)
    unfold: Callable[[Mapping[str, Tensor], ModelConfig], dict[str, Tensor]] = lambda tensors, _: dict(tensors)
    decoder: str | None = None
    lacks: Callable[[VisionLanguage], dict[str, Tensor]] = lambda _: {}


def size(part: Any) -> int:
    """How many parameters a part of a model has."""
    return sum(parameter.numel() for parameter in part.parameters())


def each_token(made: VisionLanguage, facts: Facts) -> float:
    """`projector_flops` where every matrix of the projector is for every token of a tile."""
    assert isinstance(facts.scheme, EqualTiles)
    return 2.0 * facts.scheme.tokens_per_tile * sum(p.numel() for p in made.projector.parameters() if p.ndim == 2)


def described(part: Any, **changes: Any) -> dict[str, Any]:
    """The config of a part as transformers writes it."""
    found: dict[str, Any] = part.config.to_dict()
    return {key: value for key, value in found.items() if not key.startswith("_")} | changes


def refuse(config: Any, where: str, family: str, *keys: str) -> None:
    """Raise ModelError if a config has a key that the family has no use for."""
    for key in keys:
        if getattr(config, key) is not None:
            raise ModelError(f"{where}.{key}: model.family {family} has no use for it; leave it out")
