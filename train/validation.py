"""The loss on shards that nothing is learnt from, by source, while a model is trained.

All samples of `run.validation` once, in packs as in training, without gradients and in evaluation mode. Nothing of the
run is changed by it: neither weights nor order nor the numbers of the next step. A mean is over target tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from torch import Tensor

from schemas.strict import RecipeError
from train import metrics
from train.config import Config
from train.data import loader
from train.data import plan as planning
from train.data.collate import Pack
from train.data.folders import open_shards
from train.data.plan import Position
from train.data.shards import Facts
from train.distributed.processes import World
from train.metrics import Told
from train.models import build
from train.models.vision_language import VisionLanguage

VALIDATION = "validation.jsonl"

Losses = Callable[[Sequence[Pack]], list[Tensor]]


@dataclass(frozen=True)
class Validated:
    """The losses after a step."""

    step: int
    loss: float
    samples: int
    targets: int
    seconds: float
    loss_by_source: dict[str, float]
    loss_by_language: dict[str, float]


class Validation:
    """The shards of `run.validation`, opened and planned."""

    def __init__(self, config: Config, facts: Facts, trained: Any) -> None:
        """`trained`: the identity of the shards that are learnt from."""
        assert config.run.validation is not None and config.run.validate_every is not None
        self.every = config.run.validate_every
        try:
            self.shards = open_shards(config.run.validation)
        except RecipeError as error:
            raise RecipeError(str(error).replace("data.shards", "run.validation")) from None
        if _folders(self.shards.identity) & _folders(trained):
            raise RecipeError(
                "run.validation: it has shards of data.shards, and the loss on what is learnt from is no validation; "
                "give shards of a held-out split, or take it out"
            )
        if why := self.shards.facts.fingerprints.differ(facts.fingerprints):
            raise RecipeError(
                f"run.validation: its shards are of {why}, the one of data.shards; run pretokenise for both with one "
                "recipe"
            )
        once = replace(config.data, epochs=1, steps=None, schedule=(), mixture=None, group_by=None)
        self.plan = planning.make(once, self.shards, *build.costs(config.model, facts, config.optimiser))

    def measure(self, model: VisionLanguage, losses: Losses, world: World, step: int) -> Validated:
        """The losses of a model as it is after so many steps; `losses` computes them without learning from them."""
        since, found = time.perf_counter(), list[Told]()
        model.eval()
        for each in world.together(loader.steps(self.shards, self.plan, Position(0, 0), world.rank, world.count)):
            found += metrics.told(each.packs, losses(each.packs))
        model.train()
        found = list(chain.from_iterable(world.gathered(found)))
        targets = sum(each.sample.targets for each in found)
        return Validated(
            step=step,
            loss=sum(each.loss for each in found) / max(1, targets),
            samples=len(found),
            targets=targets,
            seconds=time.perf_counter() - since,
            loss_by_source=metrics.by_source(found),
            loss_by_language=metrics.by_language(found),
        )


def _folders(identity: Any) -> set[str]:
    """The identities of one folder or of several."""
    return set(identity.values()) if isinstance(identity, dict) else {identity}


def describe(found: Validated) -> str:
    """As one line."""
    sources = ", ".join(f"{name} {loss:.4f}" for name, loss in found.loss_by_source.items())
    return (
        f"validation after step {found.step}: loss {found.loss:.4f} ({sources}), {found.samples:,} samples in "
        f"{found.seconds:,.1f} s"
    )
