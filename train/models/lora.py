"""LoRA: the decoder's linear layers stay as they are, and a product of two narrow matrices is learnt beside each.

    y = W x + alpha / rank * B A dropout(x)

All linear layers of the decoder's blocks have one (q, k, v, o, gate, up, down), the head and the table have none.
`language` is frozen but for them, and they learn as the part `language` does. A is drawn and B is 0 as in peft, so a
model begins as its base.

Adapters are float32 and are added to the weights in float32, rounded once (`merged`): in bfloat16 a tenth of a typical
difference would be lost before the rounding that nobody can avoid.

What dropout draws is a function of (init_seed, step, the samples of a pack, layer), see chance.py: any number of
threads draws the same. Another number of processes cuts a step into other packs, so it draws other numbers: losses are
those of one process at dropout 0 alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from train.config import Lora
from train.data.collate import Pack
from train.models import chance
from train.models.vision_language import VisionLanguage

_ADAPTERS = (".lora_A.weight", ".lora_B.weight")


class Adapted(nn.Linear):
    """A linear layer that takes over the weights of another."""

    def __init__(self, base: nn.Linear, config: Lora, *key: object) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.lora_A = nn.Linear(base.in_features, config.rank, bias=False)
        self.lora_B = nn.Linear(config.rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.scale, self.dropout, self.key = config.alpha / config.rank, config.dropout, key

    def forward(self, x: Tensor) -> Tensor:
        beside: Tensor = self.lora_B(self.lora_A(self._dropped(x)))
        return super().forward(x) + self.scale * beside

    def _dropped(self, x: Tensor) -> Tensor:
        if not (self.training and self.dropout):
            return x
        drawn = torch.rand(x.shape, device=x.device, generator=chance.generator(x.device, *self.key, chance.pack()))
        return x.masked_fill(drawn < self.dropout, 0.0) / (1 - self.dropout)

    def merged(self) -> Tensor:
        """The weights of a linear layer that does the same."""
        beside = self.lora_B.weight.detach().float() @ self.lora_A.weight.detach().float()
        return (self.weight.detach().float() + self.scale * beside).to(self.weight.dtype)


def add(made: VisionLanguage, config: Lora, seed: int) -> None:
    """Freeze `language` and put adapters into its decoder."""
    made.language.requires_grad_(False)
    for name, module in [*made.decoder.named_modules()]:
        if isinstance(module, nn.Linear):
            parent, _, last = name.rpartition(".")
            setattr(made.decoder.get_submodule(parent), last, Adapted(module, config, seed, name))
    made.register_forward_pre_hook(lambda model, given: chance.of_pack((model.step, _number(given[0]))))


def _number(pack: Pack) -> int:
    """Of a pack, by its samples: packs of equal lengths must not draw the same."""
    return chance.number(*((each.source, each.sample_id) for each in pack.samples))


def is_adapter(name: str) -> bool:
    """Whether a parameter is one, by its name."""
    return name.endswith(_ADAPTERS)


def merged(made: nn.Module) -> dict[str, Tensor]:
    """The weights of a model without adapters that does the same; of one without any its own."""
    found = {name: tensor.detach() for name, tensor in made.state_dict().items() if not is_adapter(name)}
    return found | {f"{name}.weight": layer.merged() for name, layer in _layers(made).items()}


def merge(made: nn.Module) -> None:
    """Put plain layers with merged weights in the place of adapted ones; of a model without any nothing changes."""
    for name, layer in _layers(made).items():
        with torch.device("meta"):
            plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
        plain.weight, plain.bias = nn.Parameter(layer.merged(), requires_grad=False), layer.bias
        parent, _, last = name.rpartition(".")
        setattr(made.get_submodule(parent), last, plain)


def save(folder: Path, made: VisionLanguage, config: Lora, decoder: str) -> None:
    """Write adapters in a new folder as peft does, for a base that has its decoder by the name `decoder`."""
    folder.mkdir(parents=True)
    layers, tensors = _layers(made.decoder), {}
    for name, layer in layers.items():
        for part, linear in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B)):
            tensors[f"base_model.model.{decoder}.{name}.{part}.weight"] = linear.weight.detach().float().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    ends = sorted({name.rpartition(".")[2] for name in layers})
    told: dict[str, Any] = {
        "peft_type": "LORA",
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": rf"{re.escape(decoder)}\..*\.({'|'.join(ends)})",
        "bias": "none",
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _layers(made: nn.Module) -> dict[str, Adapted]:
    return {name: module for name, module in made.named_modules() if isinstance(module, Adapted)}
