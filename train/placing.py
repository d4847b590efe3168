"""A config -> a model that can learn: built, frozen where it says so, in its dtypes, on its device or devices.

Its weights are those of `init_seed` on every rank, or come from a folder, before they are split over the ranks.
"""

from __future__ import annotations

import os

import torch

from schemas.strict import RecipeError
from train.config import Config
from train.data.shards import Facts
from train.distributed import sharded
from train.distributed.processes import World
from train.models import build, parts, precision
from train.models.family import ModelError
from train.models.vision_language import VisionLanguage


def refuse_too_large(config: Config, facts: Facts, world: World, device: torch.device) -> None:
    """Raise ModelError for a model that this machine's memory can't hold, before a byte of it is made: the system might
    end the process without a word. Every process here makes all weights; then each keeps its rows, on the device."""
    made = build.shell(config.model, facts, config.optimiser)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = here * sum(p.nbytes for p in made.parameters())
    if device.type == "cpu":  # and of those that learn a gradient and at least one moment
        learnt = sum(p.nbytes * (3 if p.requires_grad else 1) for p in made.parameters())
        needed = max(needed, learnt * here // (config.run.ranks_per_copy or world.count))
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        parameters = sum(p.numel() for p in made.parameters())
        raise ModelError(
            f"model: {parameters:,} parameters, {needed / 2**30:,.1f} GiB to train them here (processes: {here}), and "
            f"this machine has {there / 2**30:,.1f} GiB; lower its sizes or start fewer processes on a machine"
        )


def built(config: Config, facts: Facts) -> VisionLanguage:
    """The whole model, on the CPU."""
    model = build.build(config.model, facts).train()
    parts.freeze(model, config.optimiser)
    if config.run.recompute:
        model.checkpoint_activations()
    precision.set_dtypes(model, config.optimiser)
    return model


def share(model: VisionLanguage, config: Config, world: World, device: torch.device) -> bool:
    """Split the model over processes, or bring it to a GPU; whether that was done. FSDP then casts weights to what is
    computed in; one process on the CPU does it by autocast."""
    of = config.optimiser
    if world.count > 1 or device.type != "cpu":
        sharded.shard(model, world, device, getattr(torch, of.compute), config.run.ranks_per_copy)
        return True
    if of.compute != of.states:
        precision.autocast(model)
    return False


def refuse_unfit(config: Config, world: World) -> None:
    """Raise RecipeError for what several processes can't do."""
    each = config.run.ranks_per_copy
    if each and world.count % each:
        raise RecipeError(
            f"run.ranks_per_copy: {each}, and {world.count} processes make no whole copies of the model; give a "
            "divisor of their number, or leave it out for one copy over all"
        )
    if world.count > 1 and config.optimiser.matrices == "muon":
        raise RecipeError(
            f"optimiser.matrices: muon needs whole matrices, and each of {world.count} processes holds rows of them; "
            "set it to adamw or start one process"
        )
