"""Weights in a folder of safetensors, by name: their shapes at once, their numbers when asked for.

One `model.safetensors`, the files that `model.safetensors.index.json` names, or those of a checkpoint of ours, where
tensors may go on from file to file. No pickle is ever opened. What is renamed, cut or joined stays unread until it goes
into its parameter, so 18 GB need not be in memory twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from train import checkpoint
from train.tensor_files import Stored

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


class WeightsError(ValueError):
    """Weights that are missing, unexpected or of another model: one line."""


class Lazy(NamedTuple):
    """A tensor that is read when it is needed; `origin` is the name it has on disk."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    origin: str
    read: Callable[[], Tensor]


Lazies = dict[str, Lazy]


def files(folder: Path) -> list[Path]:
    """The files of a folder's weights. Raises WeightsError, and CheckpointError for a damaged one of ours."""
    index = folder / INDEX
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / checkpoint.RECORD).is_file():
        return [*checkpoint.weights(folder), *filter(Path.is_file, [folder / checkpoint.UNREAD])]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise WeightsError(f"{folder}: no {WEIGHTS} and no {INDEX} that can be read; give a folder with one") from None
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing:
        raise WeightsError(f"{folder / missing[0]}: missing, {INDEX} names it; fetch it too")
    return [folder / name for name in names]


def opened(folder: Path) -> Lazies:
    """Every weight of a folder by its name there. Raises WeightsError."""
    paths = files(folder)
    try:
        stored = Stored(paths)
    except (OSError, SafetensorError) as error:
        why = " ".join(str(error).split())
        raise WeightsError(f"{folder}: its weights can't be read ({why}); fetch them again") from None
    return {name: _entry(stored, name) for name in stored.parts}


def _entry(stored: Stored, name: str) -> Lazy:
    # Whole numbers are the positions that old files carry; where weights must be, `place` refuses them
    dtype = _FLOATS.get(stored.parts[name][0].dtype, torch.uint8)
    return Lazy(stored.shape(name), dtype, name, lambda: stored.read(name))


def joined(parts: Sequence[Lazy], shape: tuple[int, ...], join: Callable[[list[Tensor]], Tensor]) -> Lazy:
    """One tensor made of several."""
    return Lazy(shape, parts[0].dtype, parts[0].origin, lambda: join([part.read() for part in parts]))


def changed(of: Lazy, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> Lazy:
    """A tensor made of another one."""
    return of._replace(shape=shape, read=lambda: change(of.read()))


Pairs = Sequence[tuple[str, str]]
"""Beginnings of names, elsewhere and here. The first that fits counts."""


def renamed(weights: Mapping[str, Lazy], pairs: Pairs) -> tuple[Lazies, list[str]]:
    """Weights by our names, and the names that no pair fits. Raises WeightsError when two would get one name."""
    found: Lazies = {}
    others = []
    for name, weight in weights.items():
        ours = next((own + name.removeprefix(other) for other, own in pairs if name.startswith(other)), None)
        if ours is None:
            others.append(name)
        elif ours in found:
            raise WeightsError(f"{found[ours].origin} and {name} are both {ours}; delete one of them")
        else:
            found[ours] = weight
    return found, others


def published(name: str, pairs: Pairs) -> str:
    """The other name of one of ours: by the first pair that fits."""
    return next(other + name.removeprefix(own) for other, own in pairs if name.startswith(own))
