"""Weights as other programs read them: published names, one dtype, files of at most a size, an index where several.

    model.safetensors                                           all in one
    model-00001-of-00003.safetensors  model.safetensors.index.json   or in several

Adapters are merged in float32 and rounded once, to the dtype that is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from train.models.lazy import INDEX, WEIGHTS

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def save(folder: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype, most: int) -> list[str]:
    """Write tensors in files of at most `most` bytes, but for a tensor that is larger; the names of the files."""
    names = _shared_out(tensors, dtype.itemsize, most)
    files = [WEIGHTS] if len(names) == 1 else [_name(number, len(names)) for number in range(1, len(names) + 1)]
    for file, part in zip(files, names, strict=True):
        save_file({name: tensors[name].to("cpu", dtype).contiguous() for name in part}, folder / file, {"format": "pt"})
    if len(files) > 1:
        total = sum(tensor.numel() for tensor in tensors.values()) * dtype.itemsize
        where = {name: file for file, part in zip(files, names, strict=True) for name in part}
        told = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        (folder / INDEX).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return files


def _shared_out(tensors: Mapping[str, Tensor], itemsize: int, most: int) -> list[list[str]]:
    """The names of the tensors of each file, in order."""
    found: list[list[str]] = [[]]
    room = most
    for name in sorted(tensors):
        size = tensors[name].numel() * itemsize
        if size > room and found[-1]:
            found.append([])
            room = most
        found[-1].append(name)
        room -= size
    return found


def _name(number: int, of: int) -> str:
    return f"model-{number:05d}-of-{of:05d}.safetensors"
