"""The experts of Qwen3's mixture: one by one in published files, stacked in transformers' class.

    mlp.experts.7.gate_proj.weight [I, d], up_proj [I, d]  ->  row 7 of mlp.experts.gate_up_proj [E, 2 I, d]
    mlp.experts.7.down_proj.weight [d, I]                  ->  row 7 of mlp.experts.down_proj    [E, d, I]

Letters in names of shapes: E experts, I width of one, d width of the decoder.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from train.models.lazy import Lazies, Lazy, joined

_ONE = re.compile(r"(.*\.mlp\.experts\.)(\d+)\.(gate|up|down)_proj\.weight")
_STACKED = re.compile(r"(.*\.mlp\.experts\.)(gate_up|down)_proj")


def stacked(weights: Mapping[str, Lazy]) -> Lazies:
    """The weights with experts stacked, where these lie one by one and are complete; what is not stays as it is."""
    found: Lazies = dict(weights)
    layers: defaultdict[str, dict[tuple[int, str], Lazy]] = defaultdict(dict)
    for name, weight in weights.items():
        if one := _ONE.fullmatch(name):
            layers[one[1]][int(one[2]), one[3]] = weight
    for layer, experts in layers.items():
        count = 1 + max(number for number, _ in experts)
        if len(experts) != 3 * count or len({(kind, w.shape) for (_, kind), w in experts.items()}) != 3:
            continue
        for name in [name for name in found if _ONE.fullmatch(name) and name.startswith(layer)]:
            del found[name]
        inner, width = experts[0, "gate"].shape
        both = [experts[number, kind] for number in range(count) for kind in ("gate", "up")]
        down = [experts[number, "down"] for number in range(count)]
        found[f"{layer}gate_up_proj"] = joined(both, (count, 2 * inner, width), _pairs)
        found[f"{layer}down_proj"] = joined(down, (count, width, inner), torch.stack)
    return found


def _pairs(tensors: list[Tensor]) -> Tensor:
    """Gate and up of each expert, one above the other."""
    return torch.cat(tensors).reshape(len(tensors) // 2, -1, tensors[0].shape[1])


def one_by_one(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `stacked`."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stack = _STACKED.fullmatch(name)
        if stack is None:
            found[name] = tensor
            continue
        for number, expert in enumerate(tensor):
            kinds = ("gate", "up") if stack[2] == "gate_up" else ("down",)
            for kind, part in zip(kinds, expert.chunk(len(kinds)), strict=True):
                found[f"{stack[1]}{number}.{kind}_proj.weight"] = part.contiguous()
    return found
