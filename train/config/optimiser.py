"""The section `optimiser`: how the parts of a model learn, and how the loss is weighed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from schemas import strict
from schemas.strict import RecipeError
from train.config.checks import MOST, one_of, optional_within, within

PARTS = ("vision", "projector", "language")
_DECAY = 0.2


@dataclass(frozen=True)
class Part:
    """What of a part is not as the section says."""

    learning_rate: float | None = None
    warmup_steps: int | None = None
    warmup: float | None = None
    floor: float | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        if self.warmup_steps is not None and self.warmup is not None:
            raise ValueError("has warmup_steps and warmup; keep one of them")
        _check(self)


@dataclass(frozen=True)
class OptimiserConfig:
    """`of` is how one part learns."""

    matrices: Literal["muon", "adamw"]
    learning_rate: float
    weight_decay: float
    clip: float
    schedule: Literal["cosine", "wsd"]
    warmup_steps: int | None = None
    warmup: float | None = None
    floor: float = 0.0
    decay: float | None = None
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    parts: dict[str, Part | Literal["frozen"]] = field(default_factory=dict)
    compute: Literal["float32", "bfloat16"] = "float32"
    states: Literal["float32", "bfloat16"] = "float32"
    weigh: Literal["tokens", "samples", "sqrt"] = "tokens"

    def __post_init__(self) -> None:
        one_of(self, "warmup_steps", "warmup", least=0)
        _check(self)
        for name in ("clip", "eps"):
            _above_zero(self, name)
        self._settle_decay()
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise ValueError(f"betas holds {beta}, wanted at least 0 and less than 1")
        if self.states == "bfloat16" and (self.compute, self.matrices) != ("bfloat16", "adamw"):
            raise ValueError(
                f"states is bfloat16, compute {self.compute} and matrices {self.matrices}; "
                "states bfloat16 goes with compute bfloat16 and matrices adamw"
            )
        for name in self.parts:
            if name not in PARTS:
                raise RecipeError(strict.unknown("optimiser.parts", name, PARTS))
        if all(self.parts.get(name) == "frozen" for name in PARTS):
            raise ValueError("parts are all frozen, and nothing would learn; leave one of them out")

    def _settle_decay(self) -> None:
        """wsd always has one and cosine never."""
        if self.schedule == "cosine":
            if self.decay is not None:
                raise ValueError(f"decay is {self.decay}, and a cosine has none; take it out, or take schedule: wsd")
            return
        if self.decay is None:
            object.__setattr__(self, "decay", _DECAY)  # frozen, and not yet seen by anyone
        _above_zero(self, "decay")
        within(self, 0, 1, "decay")

    def of(self, part: str) -> OptimiserConfig:
        """The settings of one part, where they are its own and else the section's."""
        own = self.parts.get(part)
        if not isinstance(own, Part):
            return self
        given = {name: value for name, value in asdict(own).items() if value is not None}
        if {"warmup", "warmup_steps"} & given.keys():
            given = {"warmup": None, "warmup_steps": None} | given
        return replace(self, parts={}, **given)


def _check(of: Any) -> None:
    """What a part and the section both have."""
    if of.learning_rate is not None:
        _above_zero(of, "learning_rate")
    optional_within(of, 0, MOST, "warmup_steps", "weight_decay")
    optional_within(of, 0, 1, "warmup", "floor")


def _above_zero(of: Any, name: str) -> None:
    if not getattr(of, name) > 0:
        raise ValueError(f"{name} is {getattr(of, name)}, wanted more than 0")
