"""The section `model`: family, tower and decoder by their sizes, and where first weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from train.config.checks import DEEPEST, MOST, WIDEST, multiple, optional_within, weights, within

FamilyName = Literal["internvl_siglip", "llava", "jina"]


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
        within(self, 1, WIDEST, "hidden_size", "num_heads", "intermediate_size")
        within(self, 1, DEEPEST, "num_layers")
        multiple(self, "hidden_size", "num_heads")
        weights(self)
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
        within(self, 1, WIDEST, "hidden_size", "num_heads", "num_kv_heads", "intermediate_size")
        within(self, 1, DEEPEST, "num_layers")
        within(self, 0, MOST, "rope_theta", "norm_eps")
        optional_within(self, 1, WIDEST, "head_dim", "num_experts", "experts_per_token")
        optional_within(self, 1, MOST, "vocab_size", "extra_vocab_size")
        if self.head_dim is None:
            multiple(self, "hidden_size", "num_heads")
        if self.width % 2:  # its halves are rotated
            of = "hidden_size / num_heads" if self.head_dim is None else "head_dim"
            raise ValueError(f"{of} is {self.width}, wanted an even number")
        multiple(self, "num_heads", "num_kv_heads")
        weights(self)
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
class Lora:
    """Adapters beside the decoder's linear layers."""

    rank: int
    alpha: float
    dropout: float = 0.0

    def __post_init__(self) -> None:
        within(self, 1, WIDEST, "rank")
        if not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha}, wanted more than 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, wanted at least 0 and less than 1")


@dataclass(frozen=True)
class ModelConfig:
    """What a family has no use for is refused by it (train/models/), not ignored."""

    vision: Vision
    language: Language
    init_seed: int
    family: FamilyName = "internvl_siglip"
    projector_size: int | None = None
    lora: Lora | None = None
    from_: str | None = None

    def __post_init__(self) -> None:
        within(self, 0, MOST, "init_seed")
        optional_within(self, 1, WIDEST, "projector_size")
        weights(self)
        if self.from_ is not None and (self.vision.from_ or self.language.from_):
            raise ValueError("from is a whole checkpoint's; leave out vision.from and language.from")
        if self.lora and self.language.num_experts:
            raise ValueError("lora has no adapters for the experts of qwen3_moe; leave it out")
