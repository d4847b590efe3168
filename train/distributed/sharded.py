"""The gradient of a step on several processes or a GPU: FSDP2, each rank with its own packs of the step.

Every decoder layer is a unit: its weights are gathered when it runs and its gradients are summed when it is done. All
else (tower, projector, tables, head) is the root's unit: which of it a pack uses differs from rank to rank, and the
root sends zeros for what it didn't use; a tied embedding and head may not be in two units either.

Ranks come to their collectives equally often only if their packs pass the same layers, forward and backward. So a rank
without samples computes a pack of one token that teaches nothing (loader.py), and embeddings always ask for a gradient:
else nothing would go backward through a frozen decoder in a pack without pictures, while other ranks do and wait.

Gradients are sums and not means over ranks: each pack's loss is divided by the weight of the whole step's targets, over
all ranks, before it goes backward.

FSDP sums over ranks in float32 and then has each pack's sum in the dtype of the weights. Of weights in bfloat16 the
packs of a step are therefore added here, in float32 (gradient.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_

from train import weighing
from train.data.collate import Pack
from train.data.loader import Step, on
from train.distributed import gradient
from train.distributed.processes import World
from train.models.vision_language import VisionLanguage
from train.weighing import Weigh


def shard(
    model: VisionLanguage,
    world: World,
    device: torch.device,
    compute: torch.dtype = torch.float32,
    ranks_per_copy: int | None = None,
) -> None:
    """Split every parameter by rows over the ranks of a copy, on the device. Sums over ranks are in float32.

    One copy over all ranks takes the least memory. Several copies of fewer ranks each talk less: their gradients are
    summed over the copies, their weights gathered inside one. With one rank a copy that is DDP.
    """
    decoder: Any = model.decoder
    each = ranks_per_copy or world.count
    sizes = (world.count,) if each == world.count else (world.count // each, each)
    how: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, sizes, mesh_dim_names=("copy", "row")[-len(sizes) :]),
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=None if compute == torch.float32 else compute, reduce_dtype=torch.float32
        ),
    }
    for layer in decoder.layers:
        fully_shard(layer, **how)
    fully_shard(model, **how)
    for unit in _units(model):
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # else a factor of 1 asks gloo for what it hasn't
        unit.set_reduce_scatter_unused_params(True, recurse=False)
    decoder.embed_tokens.register_forward_hook(_ask_for_gradient)


def _units(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _ask_for_gradient(_: nn.Module, __: tuple[Any, ...], embeddings: Tensor) -> None:
    if torch.is_grad_enabled() and not embeddings.requires_grad:
        embeddings.requires_grad_()


def accumulate(
    model: VisionLanguage, step: Step, world: World, device: torch.device, weigh: Weigh = "tokens"
) -> tuple[float, list[Tensor]]:
    """Set every parameter's `grad` to the step's, and return the loss and those of the target tokens of each pack here.

    Loss and gradient are means over the target tokens of all ranks, weighed (train/weighing.py).
    """
    weight, found = world.sum(weighing.total(step.packs, weigh)) or 1.0, []
    total = torch.zeros((), dtype=torch.float64, device=device)
    model.zero_grad()
    short = [p for p in model.parameters() if p.dtype != torch.float32] if len(step.packs) > 1 else []
    sums = gradient.Sums()
    for pack in step.packs:
        losses = model(on(pack, device))
        loss = weighing.weighed(losses, pack, weigh, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        sums.take(short)
        total += loss.detach()
        found.append(losses.detach())
    sums.give()
    if step.counts.tiles == 0:
        _forget(model.vision, model.projector)
    return world.sum(total.item()), found


def losses(model: VisionLanguage, packs: Sequence[Pack], device: torch.device) -> list[Tensor]:
    """Those of the target tokens, pack by pack; nothing is learnt from them. All ranks have as many packs."""
    with torch.no_grad():
        found = [model(on(pack, device)) for pack in packs]
    for unit in _units(model):
        unit.reshard()  # the root's are let go by a backward pass, and here is none
    return found


def _forget(*parts: nn.Module) -> None:
    """Where no rank had a picture the root's zeros are no gradient: the tower must not move by its momentum."""
    for parameter in (parameter for part in parts for parameter in part.parameters()):
        parameter.grad = None


def clip(model: nn.Module, largest: float) -> float:
    """Shorten the gradient to a norm, and return the norm it had."""
    return whole(clip_grad_norm_(model.parameters(), largest))


def whole(norm: Tensor) -> float:
    """Over all ranks."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
