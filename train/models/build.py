"""A config and the facts of the shards -> a model with freshly drawn weights.

The dimensions come from the config; tile, patch, merge, vocabulary and image token come from the shards' manifest, so
a model can't be built for other tokens than it will be fed. The weights are a function of `init_seed` alone. Nothing
is downloaded.
"""

from __future__ import annotations

import os

import torch
from transformers import Qwen3Config, SiglipVisionConfig

from stages.tiles.scheme import EqualTiles
from train.config import Language, ModelConfig, Vision
from train.data.shards import Facts
from train.models.attention import VARLEN
from train.models.internvl_siglip import InternVLSiglip

_BYTES_EACH = 12  # weight, gradient and at least one number of the optimiser, in float32


class ModelError(ValueError):
    """A model that can't be trained here: one line."""


def build(model: ModelConfig, facts: Facts) -> InternVLSiglip:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.init_seed)
        vision, language = vision_config(model.vision, facts), language_config(model.language, facts)
        return InternVLSiglip(vision, language, tiles(facts).merge)


def tiles(facts: Facts) -> EqualTiles:
    """The tile scheme of the shards. Raises ModelError unless it is one that the model can read."""
    if not isinstance(facts.scheme, EqualTiles):
        raise ModelError(
            f"data.shards: cut by the tile scheme {facts.scheme.scheme}, and the model reads tiles of equally many "
            "tokens each; write shards by one such as internvl"
        )
    return facts.scheme


def vision_config(vision: Vision, facts: Facts) -> SiglipVisionConfig:
    return SiglipVisionConfig(
        hidden_size=vision.hidden_size,
        num_hidden_layers=vision.num_layers,
        num_attention_heads=vision.num_heads,
        intermediate_size=vision.intermediate_size,
        image_size=tiles(facts).tile,
        patch_size=tiles(facts).patch,
        vision_use_head=False,  # the attention-pooled summary, which a language model does not read
        attn_implementation="sdpa",
    )


def language_config(language: Language, facts: Facts) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=facts.vocab_size,
        hidden_size=language.hidden_size,
        num_hidden_layers=language.num_layers,
        num_attention_heads=language.num_heads,
        num_key_value_heads=language.num_kv_heads,
        head_dim=language.hidden_size // language.num_heads,
        intermediate_size=language.intermediate_size,
        tie_word_embeddings=True,
        attn_implementation=VARLEN,
    )


def costs(model: ModelConfig, facts: Facts) -> tuple[float, float]:
    """FLOPs of one token and of one tile, forward and backward, in matrix products: the planner's costs.

    Raises ModelError for a model that this machine's memory can't hold.
    """
    with torch.device("meta"):
        shell = build(model, facts)
    _refuse_too_large(sum(p.numel() for p in shell.parameters()))
    decoder = sum(p.numel() for p in shell.language.model.layers.parameters())
    tower = sum(p.numel() for p in shell.vision.encoder.parameters())
    projector = sum(p.numel() for p in shell.projector.parameters())
    scheme = tiles(facts)
    patches = (scheme.tile // scheme.patch) ** 2
    return 6.0 * decoder, 6.0 * (tower * patches + projector * scheme.tokens_per_tile)


def _refuse_too_large(parameters: int) -> None:
    """Before a byte of it is made: the system might end the process without a word."""
    needed, there = parameters * _BYTES_EACH, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ModelError(
            f"model: {parameters:,} parameters, {needed / 2**30:,.0f} GiB to train them, and this machine has "
            f"{there / 2**30:,.0f} GiB; lower its sizes"
        )
