"""A model as a folder that other programs read: safetensors under the family's published names, and config.json.

    config.json         what the family's classes are told
    model.safetensors   every parameter once, tied ones too, and what nothing reads of a pretrained tower; adapters are
                        merged

A folder written so is read back by `model.from`, bit by bit.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from train.config import ModelConfig
from train.data.shards import Facts
from train.models import experts, lazy, lora
from train.models.families import FAMILIES
from train.models.family import ModelError
from train.models.pretrained import HEAD, OWN
from train.models.vision_language import VisionLanguage


def save(folder: Path, made: VisionLanguage, model: ModelConfig, facts: Facts) -> None:
    """Write a new folder."""
    folder.mkdir(parents=True)
    tensors = {name: tensor.contiguous() for name, tensor in names(made, model).items()}
    save_file(tensors, folder / lazy.WEIGHTS, {"format": "pt"})
    told = FAMILIES[model.family].describe(made, model, facts)
    (folder / "config.json").write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_adapter(folder: Path, made: VisionLanguage, model: ModelConfig) -> None:
    """Write the adapters alone in a new folder, as peft reads them beside the base model. Raises ModelError."""
    decoder = FAMILIES[model.family].decoder
    if model.lora is None or decoder is None:
        lacks = "peft adapts no layers of its published form" if model.lora else "model.lora is not there"
        raise ModelError(f"model.family {model.family}: {lacks}; write the whole model, into which adapters are merged")
    lora.save(folder, made, model.lora, decoder)


def names(made: VisionLanguage, model: ModelConfig) -> dict[str, Tensor]:
    """The weights of a model by their published names."""
    family = FAMILIES[model.family]
    found = lora.merged(made)
    if model.language.tie_embeddings:
        del found[HEAD]
    found = experts.one_by_one(family.unfold({**family.lacks(made), **found, **made.unread}, model))
    pairs = (*family.names, *((name, name) for name in sorted(found) if not name.startswith(tuple(p for _, p in OWN))))
    return {lazy.published(name, pairs): tensor for name, tensor in found.items()}
