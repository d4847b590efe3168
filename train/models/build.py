"""A config and the facts of the shards -> a model with freshly drawn weights.

The dimensions come from the config; tile, patch, merge, vocabulary and image token come from the shards' manifest, so
a model can't be built for other tokens than it will be fed. The weights are a function of `init_seed` alone. Nothing
is downloaded.
"""

from __future__ import annotations

import torch

from train.config import ModelConfig, OptimiserConfig
from train.data.shards import Facts
from train.models import lora, parts, precision
from train.models.families import FAMILIES
from train.models.family import Family, ModelError
from train.models.language import active_parameters
from train.models.vision_language import VisionLanguage


def build(model: ModelConfig, facts: Facts) -> VisionLanguage:
    """Raises ModelError for shards that the family can't read and for keys that it has no use for."""
    found = family(model, facts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.init_seed)
        made = found.make(model, facts, _rows(model, facts))
        if model.lora:
            lora.add(made, model.lora, model.init_seed)
        return made


def family(model: ModelConfig, facts: Facts) -> Family:
    """The family of a config. Raises ModelError unless the shards were cut by a scheme that it can read."""
    found = FAMILIES[model.family]
    if not isinstance(facts.scheme, found.reads):
        names = ", ".join(scheme.scheme for scheme in found.reads)
        raise ModelError(
            f"data.shards: cut by the tile scheme {facts.scheme.scheme}, and model.family {found.name} reads {names}; "
            "write shards by one of these or change the family"
        )
    return found


def _rows(model: ModelConfig, facts: Facts) -> int:
    """Of the embedding: at least one for each id that the shards can have."""
    told, extra = model.language.vocab_size, model.language.extra_vocab_size or 0
    if told is None:
        return facts.vocab_size
    if told + extra < facts.vocab_size:
        rows = f"{told:,} rows" + (f" and {extra:,} extra ones" if extra else "")
        raise ModelError(
            f"model.language.vocab_size: {rows}, the shards have ids up to {facts.vocab_size - 1:,}; raise it to at "
            f"least {facts.vocab_size - extra:,} or leave it out"
        )
    return told + extra


def costs(model: ModelConfig, facts: Facts, optimiser: OptimiserConfig) -> tuple[float, float]:
    """FLOPs of one token and of one tile, forward and backward, in matrix products: the planner's costs."""
    return costs_of(shell(model, facts, optimiser), model, facts)


def costs_of(made: VisionLanguage, model: ModelConfig, facts: Facts) -> tuple[float, float]:
    """The same of a model that is made, or of its shell."""
    token = active_parameters(made.decoder, model.language)
    return 6.0 * token, 6.0 * family(model, facts).tile_cost(made, facts)


def shell(model: ModelConfig, facts: Facts, optimiser: OptimiserConfig) -> VisionLanguage:
    """A model without its numbers; frozen, and in the dtypes, as it will be."""
    with torch.device("meta"):
        made = build(model, facts)
    parts.freeze(made, optimiser)
    precision.set_dtypes(made, optimiser)
    return made
