"""Tensors in several safetensors files: the rows of a tensor go on from file to file.

A rank writes the rows that it holds, and nothing else, and of several copies of a model those of the first; rows lie
in the order of the ranks, which is the order of the files. So the files need no index beside their own headers: end to
end they are the tensor, whoever reads them, and any number of ranks reads just the rows that it will hold. What is not
split lies whole in the first file.

    model-r00000.safetensors  model-r00001.safetensors  ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

Tensors = Mapping[str, Tensor]


class Part(NamedTuple):
    """What one file has of a tensor."""

    path: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        """What the parts of a tensor have in common."""
        return self.dtype, self.shape[1:]

    def rows(self, name: str, first: int, last: int) -> Tensor:
        with safe_open(self.path, "pt") as file:
            found: Tensor = file.get_slice(name)[first:last]
            return found


def file_name(kind: str, rank: int) -> str:
    return f"{kind}-r{rank:05d}.safetensors"


def of_kind(kind: str, names: Sequence[str]) -> list[str]:
    """Those of some files that are of a kind, in order."""
    return sorted(name for name in names if name.startswith(f"{kind}-r") and name.endswith(".safetensors"))


def own_rows(tensors: Tensors, first: bool) -> dict[str, Tensor]:
    """What this rank writes: copies on the CPU of its rows; what isn't split is the first rank's."""
    found = {}
    for name, tensor in tensors.items():
        local = _local(tensor)
        if local.numel() and _of_first_copy(tensor) if isinstance(tensor, DTensor) else first:
            found[name] = local.detach().to("cpu", copy=True).contiguous()
    return found


def write(path: Path, tensors: Tensors) -> None:
    save_file(dict(tensors), path)


class Stored:
    """The tensors of some files, by name. Raises OSError and SafetensorError for what is no such file."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.parts: dict[str, list[Part]] = {}
        for path in paths:
            try:
                self._add(path)
            except SafetensorError as error:
                raise SafetensorError(f"{path.name}: {error}") from None

    def _add(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  # no mapping
                found = file.get_slice(name)
                part = Part(path, tuple(found.get_shape()), found.get_dtype())
                parts = self.parts.setdefault(name, [])
                if any(p.kind != part.kind or not part.shape for p in parts):
                    raise SafetensorError(f"{name} does not go on from {parts[0].path.name}")
                parts.append(part)

    def shape(self, name: str) -> tuple[int, ...]:
        parts = self.parts[name]
        if len(parts) == 1:
            return parts[0].shape
        return (sum(part.shape[0] for part in parts), *parts[0].shape[1:])

    def read(self, name: str, first: int = 0, last: int | None = None) -> Tensor:
        """Rows `first` to `last` of a tensor, or all of it."""
        parts = self.parts[name]
        if len(parts) == 1 and first == 0 and last is None:
            with safe_open(parts[0].path, "pt") as file:
                whole: Tensor = file.get_tensor(name)
                return whole
        last = self.shape(name)[0] if last is None else last
        found, begin = [], 0
        for part in parts:
            low, high = max(first - begin, 0), min(last - begin, part.shape[0])
            if low < high:
                found.append(part.rows(name, low, high))
            begin += part.shape[0]
        return torch.cat(found) if found else parts[0].rows(name, 0, 0)

    def read_like(self, name: str, like: Tensor) -> Tensor:
        """What a rank holds of a tensor that is split as `like` is, and on its device."""
        if not isinstance(like, DTensor) or self.shape(name) != tuple(like.shape):
            return self.read(name)
        local = self.read(name, *held_rows(like)).to(like.device)
        return DTensor.from_local(
            local, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )


def held_rows(tensor: DTensor) -> tuple[int, int]:
    """First and last of the rows that this rank holds."""
    assert tensor.placements[-1] == Shard(0) and all(place.is_replicate() for place in tensor.placements[:-1])
    rows, mesh = tensor.shape[0], tensor.device_mesh
    last = mesh.ndim - 1
    each = -(-rows // mesh.size(last))
    first = min(rows, mesh.get_local_rank(last) * each)
    assert _local(tensor).shape[0] == min(rows, first + each) - first
    return first, min(rows, first + each)


def _of_first_copy(tensor: DTensor) -> bool:
    """Ranks of the other copies hold the same rows."""
    mesh = tensor.device_mesh
    return mesh.ndim == 1 or mesh.get_local_rank(0) == 0


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
