"""A config as a bench runs it: its own sizes, or tiny ones of the same shape, on made-up shards and random weights."""

from __future__ import annotations

from dataclasses import replace

from train.config import Config, DataConfig, Language, ModelConfig, Vision

_WIDTH, _DEPTH, _TOWER, _VOCABULARY, _EXPERTS, _BATCH = 64, 2, 3, 1000, 4, 4


def for_bench(config: Config, shards: str, out: str, steps: int, samples: int | None) -> Config:
    """Of the data the batch and the packs stay; weights are drawn, and nothing is measured or written beside."""
    model = replace(
        config.model,
        from_=None,
        vision=replace(config.model.vision, from_=None),
        language=replace(config.model.language, from_=None),
    )
    of = config.data
    batch, in_tokens = (samples, None) if samples else (of.batch_size, of.batch_tokens)
    data = DataConfig(shards, of.seed, of.max_tokens_per_pack, None, steps, batch, in_tokens)
    run = replace(
        config.run, out=out, validation=None, validate_every=None, evaluate=None, tensorboard=False, keep_every=None
    )
    return replace(config, data=data, model=model, run=run)


def tiny(config: Config, longest: int) -> Config:
    """The same families, parts and adapters so small that a CPU takes steps in seconds; tiles are as large as ever."""
    data = replace(config.data, batch_size=_BATCH, batch_tokens=None, max_tokens_per_pack=longest)
    return replace(config, data=data, model=_model(config.model))


def _model(of: ModelConfig) -> ModelConfig:
    lora = replace(of.lora, rank=min(8, of.lora.rank)) if of.lora else None
    vision = Vision(_WIDTH, _TOWER, 2, 2 * _WIDTH, (-1, -2) if of.family == "jina" else None)
    wide = 2 * _WIDTH if of.projector_size else None
    return replace(of, vision=vision, language=_language(of.language), lora=lora, projector_size=wide)


def _language(of: Language) -> Language:
    extra = of.extra_vocab_size
    return replace(
        of,
        hidden_size=_WIDTH,
        num_layers=_DEPTH,
        num_heads=4,
        num_kv_heads=2,
        head_dim=None,
        intermediate_size=2 * _WIDTH,
        vocab_size=_VOCABULARY - (extra or 0),
        num_experts=of.num_experts and min(_EXPERTS, of.num_experts),
        experts_per_token=of.experts_per_token and min(2, of.experts_per_token),
    )
