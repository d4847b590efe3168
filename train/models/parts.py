"""The parts of a model, which are the beginnings of its parameters' names: vision, projector, language.

A config says of a part how it learns, or that it is `frozen`: it then gets no gradient and no optimiser holds it.
"""

from __future__ import annotations

from torch import nn

from train.config import OptimiserConfig


def part_of(name: str) -> str:
    """The part that a parameter belongs to."""
    return name.partition(".")[0]


def freeze(model: nn.Module, config: OptimiserConfig) -> None:
    """From now on frozen parts have no gradients."""
    for name, parameter in model.named_parameters():
        if config.parts.get(part_of(name)) == "frozen":
            parameter.requires_grad_(False)
