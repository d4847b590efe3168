"""Which parameter learns by what: Muon or AdamW for the matrices, AdamW for everything else, each part at its rate.

Weight decay acts on matrices only: norms, biases and embeddings (rows of rare tokens would shrink without ever being
seen) have none. Frozen parameters are held by no optimiser. Every group of parameters says whose `part` it is, and
schedule.py sets its rate.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from train.config import OptimiserConfig
from train.models.parts import part_of
from train.optim.adamw import RoundingAdamW
from train.optim.muon import Muon


def make(model: nn.Module, config: OptimiserConfig, pool: Executor, seed: int = 0) -> list[Optimizer]:
    """The optimisers that together hold every parameter that is not frozen once; `seed` keys what is rounded."""
    matrices, rest = _groups(model, config)
    if config.matrices == "muon":
        made = [Muon(matrices, config.learning_rate, 0.0, pool)] if matrices else []
        return [*made, *([_adamw(rest, config, seed)] if rest else [])]
    return [_adamw([*matrices, *rest], config, seed)]


def _adamw(groups: list[dict[str, Any]], config: OptimiserConfig, seed: int) -> Optimizer:
    if config.states == "bfloat16":
        return RoundingAdamW(groups, config.learning_rate, config.betas, config.eps, seed)
    # Elsewhere it is torch's choice; on a GPU its choice would take the memory of the weights once more
    fused = True if all(parameter.is_cuda for group in groups for parameter in group["params"]) else None
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, weight_decay=0.0, fused=fused)


def _groups(model: nn.Module, config: OptimiserConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The matrices of each part, and its other parameters."""
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    # A head tied to the embedding is a table of tokens, not a map between spaces.
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices: dict[str, dict[str, Any]] = {}
    rest: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part, is_matrix = part_of(name), id(parameter) in linear - tables
            decays = is_matrix or parameter.ndim == 3  # experts are matrices in a stack, which Muon does not take
            decay = config.of(part).weight_decay if decays else 0.0
            new = {"params": [], "names": [], "part": part, "weight_decay": decay}
            group = (matrices if is_matrix else rest).setdefault(f"{part} {decays}", new)
            group["params"].append(parameter)
            group["names"].append(name)
    return list(matrices.values()), list(rest.values())
