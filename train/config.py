"""A training config: one YAML file -> frozen dataclasses. An unknown key is an error that names the nearest one.

`data`, `model` and `optimiser` are the identity of a run: changing any of them makes another model. `run` is
execution: where to write, how many threads, how often to save; no result depends on it. Tile and patch size, merge,
vocabulary and the image token are not here: they are read from the manifest of the shards.

Of a model also: `vision.feature_layers` (which layers are read: tower.py), `language.architecture` (qwen3, llama or
qwen3_moe with `num_experts` and `experts_per_token`, `intermediate_size` being one expert's), `language.head_dim`,
`vocab_size` (rows of the tables), `extra_vocab_size` (rows more in the embedding than in the head: jina),
`tie_embeddings`, `rope_theta`, `norm_eps`, and `projector_size` (jina's SwiGLU).

    data:
      shards: PATH              # shard folder, or an output folder of the pipeline that holds exactly one
                                # or several: a list, or names and paths; names then stand before their sources'
      seed: 0                   # keys the order of every epoch
      epochs: 10                # or `steps: 60000`, or a `schedule`
      batch_size: 64            # samples per step; or `batch_tokens`: as many samples as come to so many tokens
      max_tokens_per_pack: 2048 # a step is cut into packs of at most this many tokens; one forward each
    model:
      family: internvl_siglip   # or llava, jina: which tower, connector and weights' names (train/models/)
      vision: {hidden_size: 128, num_layers: 4, num_heads: 4, intermediate_size: 384}
      language: {hidden_size: 128, num_layers: 4, num_heads: 4, num_kv_heads: 2, intermediate_size: 384}
      init_seed: 0              # the weights before the first step
      # from: PATH              # first weights of the whole model, or vision.from and language.from (pretrained.py)
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

Also in `data`, all of them optional; `python -m train plan CONFIG` shows what they come to:

    group_by: modality          # length or modality: batches as HF's and LLaVA's samplers make them
    mixture:
      by: source                # or subset: what the names below are, `source` or `source/subset`
      unit: samples             # samples, tokens or targets: what weights are shares of
      weights: {a: 3, b: 1}     # kept at every step; every source is named, 0 leaves one out
      repeats: {a: 2}           # in place of weights: passes over a source in an epoch; 1 where none is named
      caps: 4                   # most passes over a source in the whole run, or by name; the others get what is above
    schedule:                   # in place of epochs and steps
      - {steps: 30000, batches: single}  # each step of one source
      - {steps: 30000, batches: mixed}
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from schemas import strict, yaml_file
from schemas.strict import RecipeError

# No run comes near; beyond, numbers no longer fit where they are used, or a model takes forever to be built
_MOST, _WIDEST, _DEEPEST, _MOST_THREADS = 2**53, 2**20, 1000, 1024


FamilyName = Literal["internvl_siglip", "llava", "jina"]


@dataclass(frozen=True)
class Mixture:
    by: Literal["source", "subset"] = "source"
    unit: Literal["samples", "tokens", "targets"] = "samples"
    weights: dict[str, float] | None = None
    repeats: dict[str, float] | None = None
    caps: float | dict[str, float] | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and self.repeats is not None:
            raise ValueError("it has weights and repeats; keep one of them")
        for name in ("weights", "repeats"):
            for source, value in (getattr(self, name) or {}).items():
                if not 0 <= value <= _MOST:
                    raise ValueError(f"{name}.{source} is {value}, wanted at least 0")
        for value in self.caps.values() if isinstance(self.caps, dict) else [self.caps]:
            if value is not None and not 0 < value <= _MOST:
                raise ValueError(f"caps holds {value}, wanted more than 0")


@dataclass(frozen=True)
class Phase:
    """So many steps with batches of one kind."""

    steps: int
    batches: Literal["mixed", "single"]

    def __post_init__(self) -> None:
        _within(self, 1, _MOST, "steps")


@dataclass(frozen=True)
class DataConfig:
    shards: str | tuple[str, ...] | dict[str, str]
    seed: int
    max_tokens_per_pack: int
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    batch_tokens: int | None = None
    group_by: Literal["length", "modality"] | None = None
    mixture: Mixture | None = None
    schedule: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        _paths(self, "shards")
        _within(self, 0, _MOST, "seed")
        _within(self, 1, _MOST, "max_tokens_per_pack")
        _one_of(self, "epochs", "steps", "schedule")
        _one_of(self, "batch_size", "batch_tokens")
        if self.group_by and (self.batch_tokens or self.mixture or self.schedule):
            raise ValueError("group_by goes with batch_size, and with neither mixture nor schedule; take it out")


@dataclass(frozen=True)
class Vision:
    """The tower. `num_layers` are all its layers; those after the last one of `feature_layers` are not run."""

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    feature_layers: tuple[int, ...] | None = None
    from_: str | None = None

    def __post_init__(self) -> None:
        _within(self, 1, _WIDEST, "hidden_size", "num_heads", "intermediate_size")
        _within(self, 1, _DEEPEST, "num_layers")
        _multiple(self, "hidden_size", "num_heads")
        _weights(self)
        for layer in self.feature_layers or ():
            if not -self.num_layers <= layer < self.num_layers:
                raise ValueError(
                    f"feature_layers has {layer}, wanted one of the {self.num_layers} layers, from 0 or -1"
                )
        if self.feature_layers == ():
            raise ValueError("feature_layers is empty, wanted at least one layer")


@dataclass(frozen=True)
class Language:
    """The decoder. `vocab_size` are the rows of its tables, where there are more than the shards have ids."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    intermediate_size: int
    architecture: Literal["qwen3", "llama", "qwen3_moe"] = "qwen3"
    head_dim: int | None = None
    vocab_size: int | None = None
    extra_vocab_size: int | None = None
    tie_embeddings: bool = True
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6
    num_experts: int | None = None
    experts_per_token: int | None = None
    from_: str | None = None

    def __post_init__(self) -> None:
        _within(self, 1, _WIDEST, "hidden_size", "num_heads", "num_kv_heads", "intermediate_size")
        _within(self, 1, _DEEPEST, "num_layers")
        _within(self, 0, _MOST, "rope_theta", "norm_eps")
        _optional_within(self, 1, _WIDEST, "head_dim", "num_experts", "experts_per_token")
        _optional_within(self, 1, _MOST, "vocab_size", "extra_vocab_size")
        if self.head_dim is None:
            _multiple(self, "hidden_size", "num_heads")
        if self.width % 2:  # its halves are rotated
            of = "hidden_size / num_heads" if self.head_dim is None else "head_dim"
            raise ValueError(f"{of} is {self.width}, wanted an even number")
        _multiple(self, "num_heads", "num_kv_heads")
        _weights(self)
        self._check_experts()

    @property
    def width(self) -> int:
        """Of one head."""
        return self.head_dim or self.hidden_size // self.num_heads

    def _check_experts(self) -> None:
        given = (self.num_experts is not None, self.experts_per_token is not None)
        if given != (self.architecture == "qwen3_moe",) * 2:
            raise ValueError(
                f"num_experts is {self.num_experts} and experts_per_token {self.experts_per_token}; "
                "architecture qwen3_moe has both, the others neither"
            )
        if (self.experts_per_token or 0) > (self.num_experts or 0):
            raise ValueError(f"experts_per_token is {self.experts_per_token}, wanted at most {self.num_experts}")


@dataclass(frozen=True)
class ModelConfig:
    """What a family has no use for is refused by it (train/models/), not ignored."""

    vision: Vision
    language: Language
    init_seed: int
    family: FamilyName = "internvl_siglip"
    projector_size: int | None = None
    from_: str | None = None

    def __post_init__(self) -> None:
        _within(self, 0, _MOST, "init_seed")
        _optional_within(self, 1, _WIDEST, "projector_size")
        _weights(self)
        if self.from_ is not None and (self.vision.from_ or self.language.from_):
            raise ValueError("from is a whole checkpoint's; leave out vision.from and language.from")


@dataclass(frozen=True)
class OptimiserConfig:
    matrices: Literal["muon", "adamw"]
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    clip: float
    schedule: Literal["cosine", "wsd"]

    def __post_init__(self) -> None:
        _within(self, 0, _MOST, "warmup_steps", "weight_decay")
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
        _path(self, "out")
        _within(self, 1, _MOST_THREADS, "threads")
        _within(self, 1, _MOST, "checkpoint_every", "log_every")


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


def _within(config: Any, least: int, most: int, *names: str) -> None:
    assert set(names) <= {field.name for field in fields(config)}
    for name in names:
        value = getattr(config, name)
        if not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most:,}"
            raise ValueError(f"{name} is {strict.brief(value)}, wanted {bound}")


def _optional_within(config: Any, least: int, most: int, *names: str) -> None:
    _within(config, least, most, *(name for name in names if getattr(config, name) is not None))


def _weights(config: Any) -> None:
    """The folder of a key `from`, if there is one."""
    if config.from_ is not None:
        _path(config, "from_")


def _one_of(config: Any, *names: str) -> None:
    """Exactly one is there, and it is a number from 1 on or a list."""
    given = [name for name in names if getattr(config, name) not in (None, ())]
    if len(given) != 1:
        found = f"has {' and '.join(given)}" if given else "has none"
        raise ValueError(f"{found} of {', '.join(names)}; wanted exactly one of them")
    if isinstance(getattr(config, given[0]), int):
        _within(config, 1, _MOST, given[0])


def _path(config: Any, name: str) -> None:
    """A place that can be one; `~` is the home folder."""
    object.__setattr__(config, name, _place(name, getattr(config, name)))  # frozen, and not yet seen by anyone


def _paths(config: Any, name: str) -> None:
    """The same of one, of a list, or by names."""
    value = getattr(config, name)
    if isinstance(value, str):
        return _path(config, name)
    if not value:
        raise ValueError(f"{name} is empty, wanted the path of a folder")
    found = (
        {key: _place(f"{name}.{key}", path) for key, path in value.items()}
        if isinstance(value, dict)
        else tuple(_place(f"{name}[{number}]", path) for number, path in enumerate(value))
    )
    object.__setattr__(config, name, found)


def _place(name: str, value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError(f"{name.rstrip('_')} is {value!r}, wanted the path of a folder")
    try:
        return str(Path(value).expanduser())
    except RuntimeError:
        raise ValueError(f"{name.rstrip('_')} is {value!r}, and there is no such home folder") from None


def _multiple(config: Any, name: str, of: str) -> None:
    if getattr(config, name) % getattr(config, of):
        raise ValueError(f"{name} is {getattr(config, name)}, wanted a multiple of {of} = {getattr(config, of)}")
