"""A training config: one YAML file -> frozen dataclasses. An unknown key is an error that names the nearest one.

`data`, `model` and `optimiser` are the identity of a run: changing any of them makes another model. `run` is
execution: where to write, how many threads, how often to save; no result depends on it. Tile and patch size, merge,
vocabulary and the image token are not here: they are read from the manifest of the shards.

    data:
      shards: PATH              # shard folder, or an output folder of the pipeline that holds exactly one
      seed: 0                   # keys the order of every epoch
      epochs: 10
      batch_size: 64            # samples per step
      max_tokens_per_pack: 2048 # a step is cut into packs of at most this many tokens; one forward each
    model:
      vision: {hidden_size: 128, num_layers: 4, num_heads: 4, intermediate_size: 384}
      language: {hidden_size: 128, num_layers: 4, num_heads: 4, num_kv_heads: 2, intermediate_size: 384}
      init_seed: 0              # the weights before the first step
    optimiser:
      matrices: muon            # how matrices learn: muon or adamw; all other parameters learn by adamw
      learning_rate: 0.001      # the highest of the schedule
      warmup_steps: 50          # from 0 to learning_rate, linearly
      weight_decay: 0.05        # on matrices; not on norms, biases and embeddings
      clip: 1.0                 # largest norm of the gradient
      schedule: cosine          # cosine to 0, or wsd: level, then linearly to 0 over the last fifth
    run:
      out: PATH                 # checkpoints, log.jsonl, summary.json
      threads: 2                # packs computed side by side
      checkpoint_every: 100     # steps
      log_every: 10             # steps between printed lines; log.jsonl has every step
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from schemas import strict, yaml_file
from schemas.strict import RecipeError


@dataclass(frozen=True)
class DataConfig:
    shards: str
    seed: int
    epochs: int
    batch_size: int
    max_tokens_per_pack: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "epochs", "batch_size", "max_tokens_per_pack")


@dataclass(frozen=True)
class Vision:
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "hidden_size", "num_layers", "num_heads", "intermediate_size")
        _multiple(self, "hidden_size", "num_heads")


@dataclass(frozen=True)
class Language:
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "hidden_size", "num_layers", "num_heads", "num_kv_heads", "intermediate_size")
        _multiple(self, "hidden_size", "num_heads")
        _multiple(self, "num_heads", "num_kv_heads")


@dataclass(frozen=True)
class ModelConfig:
    vision: Vision
    language: Language
    init_seed: int


@dataclass(frozen=True)
class OptimiserConfig:
    matrices: Literal["muon", "adamw"]
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    clip: float
    schedule: Literal["cosine", "wsd"]

    def __post_init__(self) -> None:
        _at_least(self, 0, "warmup_steps", "weight_decay")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted more than 0")


@dataclass(frozen=True)
class RunConfig:
    out: str
    threads: int
    checkpoint_every: int
    log_every: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "threads", "checkpoint_every", "log_every")


@dataclass(frozen=True)
class Config:
    data: DataConfig
    model: ModelConfig
    optimiser: OptimiserConfig
    run: RunConfig


def load(path: str | Path) -> Config:
    """Read a config file. Raises RecipeError."""
    mapping = yaml_file.read(path)
    data = mapping.get("data")
    if isinstance(data, dict) and "sources" in data:
        raise RecipeError(f"{path}: is a recipe of the pipeline; give it to `python -m pipeline run`")
    return strict.build(Config, mapping)


def _at_least(config: Any, least: int, *names: str) -> None:
    assert set(names) <= {field.name for field in fields(config)}
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name} is {getattr(config, name)}, wanted at least {least}")


def _multiple(config: Any, name: str, of: str) -> None:
    if getattr(config, name) % getattr(config, of):
        raise ValueError(f"{name} is {getattr(config, name)}, wanted a multiple of {of} = {getattr(config, of)}")
