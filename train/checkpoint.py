"""A checkpoint: everything that continues a run bit by bit, or answers questions without the shards.

    <out>/step-000120/
      model.safetensors       weights
      optimiser.safetensors   their state, by the name of the parameter
      checkpoint.json         identity (data, model, optimiser), facts of the shards, plan, position
      tokenizer/              copy of the shards' tokenizer and chat template

No file is a pickle. All is written to a hidden folder, flushed, then renamed: a folder named `step-*` is whole,
whenever the process was killed. The newest replaces the older ones. Continuing compares identities and refuses with
the first key that differs.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim import Optimizer

from schemas import strict
from train.config import Config

RECORD, WEIGHTS, OPTIMISER, TOKENIZER = "checkpoint.json", "model.safetensors", "optimiser.safetensors", "tokenizer"


class CheckpointError(ValueError):
    """A checkpoint that is missing, or of another run: one line."""


@dataclass(frozen=True)
class Record:
    """checkpoint.json. `step` counts optimiser steps; (epoch, epoch_step) is the next one to do."""

    identity: dict[str, Any]
    facts: dict[str, Any]
    plan: str
    step: int
    epoch: int
    epoch_step: int


def identity(config: Config, shards: str) -> dict[str, Any]:
    """What makes one run another: data, model and optimiser, with the shards by their identity, not by their path."""
    data = asdict(config.data) | {"shards": shards}
    return {"data": data, "model": asdict(config.model), "optimiser": asdict(config.optimiser)}


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold `out` for one run: two would rename their checkpoints over each other. Raises CheckpointError."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CheckpointError(f"{out}: another run is training here; wait for it or change run.out") from None
        yield


def latest(out: Path) -> Path | None:
    """The newest checkpoint below `out`."""
    return max(out.glob("step-*"), default=None, key=lambda folder: int(folder.name.removeprefix("step-")))


def read(folder: Path) -> Record:
    return strict.build(Record, json.loads((folder / RECORD).read_text(encoding="utf-8")), RECORD)


def refuse_other(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise CheckpointError naming the first key in which a checkpoint's identity differs from the config's."""
    theirs, ours = dict(_flat(found)), dict(_flat(wanted))
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            raise CheckpointError(
                f"{key}: {folder} was made with {theirs.get(key)}, the config says {ours.get(key)}; "
                "put it back or choose another run.out"
            )


def save(out: Path, record: Record, model: nn.Module, optimisers: Sequence[Optimizer], tokenizer: Path) -> Path:
    name = f"step-{record.step:06d}"
    draft = out / f".{name}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_model(model, str(draft / WEIGHTS))
    save_file(_optimiser_state(model, optimisers), draft / OPTIMISER)
    shutil.copytree(tokenizer, draft / TOKENIZER)
    (draft / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
    _flush(*sorted(draft.rglob("*"), reverse=True), draft)
    older = [*out.glob("step-*"), *(path for path in out.glob(".step-*") if path != draft)]
    draft.rename(out / name)
    _flush(out)
    for path in older:
        shutil.rmtree(path)
    return out / name


def load(folder: Path, model: nn.Module) -> None:
    """Weights; a missing, unexpected or differently shaped one raises."""
    load_model(model, str(folder / WEIGHTS), strict=True)


def load_optimisers(folder: Path, model: nn.Module, optimisers: Sequence[Optimizer]) -> None:
    tensors = load_file(folder / OPTIMISER)
    parameters = dict(model.named_parameters())
    holder = {id(p): optimiser for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]}
    # A parameter that never had a gradient (the tower, while all samples were text) has no state yet.
    for key, tensor in tensors.items():
        name, _, field = key.rpartition(".")
        holder[id(parameters[name])].state[parameters[name]][field] = tensor


def _optimiser_state(model: nn.Module, optimisers: Sequence[Optimizer]) -> dict[str, Tensor]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}.{field}": tensor
        for optimiser in optimisers
        for parameter, state in optimiser.state.items()
        for field, tensor in state.items()
    }


def _flat(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield key, tree
        return
    for name, value in tree.items():
        yield from _flat(value, f"{key}.{name}" if key else name)


def _flush(*paths: Path) -> None:
    """What a folder holds comes before the folder: a rename must not reach the disk before its contents."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
