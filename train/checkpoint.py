"""A checkpoint: everything that continues a run bit by bit, or answers questions without the shards.

    <out>/step-000120/
      model.safetensors       weights
      unread.safetensors      pretrained weights of layers that nothing reads, if there are any
      optimiser.safetensors   their state, by the name of the parameter
      checkpoint.json         identity (data, model, optimiser), facts of the shards, plan, position, hash of every file
      tokenizer/              copy of the shards' tokenizer and chat template

No file is a pickle. All is written to a hidden folder, flushed, then renamed: a folder named `step-*` is whole,
whenever the process was killed; what changed later is found by the hashes, of which the record has one of its own. The
newest replaces the older ones. Continuing compares identities and refuses with the first key that differs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim import Optimizer

from schemas import strict
from schemas.identity import fingerprint
from schemas.manifest import hash_file
from train.config import Config, ModelConfig

RECORD, WEIGHTS, UNREAD = "checkpoint.json", "model.safetensors", "unread.safetensors"
OPTIMISER, TOKENIZER = "optimiser.safetensors", "tokenizer"

Files = Mapping[str, Path]  # name in the tokenizer's folder -> where the file lies now


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another run: one line."""


@dataclass(frozen=True)
class Record:
    """checkpoint.json. `step` counts the steps, (epoch, epoch_step) is the next one to do; `files`: name -> sha256
    of all others, none while they are being written."""

    identity: dict[str, Any]
    facts: dict[str, Any]
    plan: dict[str, Any]
    step: int
    epoch: int
    epoch_step: int
    files: dict[str, str] = field(default_factory=dict)


def identity(
    config: Config, shards: Any, weights: Mapping[str, str] | None = None, leave_out: str | None = None
) -> dict[str, Any]:
    """What makes one run another: data, model and optimiser, with the shards and what is left out of them by their
    identities, not by their paths, and the folders of first weights by the hashes of their files."""
    data = asdict(config.data) | {"shards": shards, "leave_out": leave_out}
    found = {"data": data, "model": described(config.model), "optimiser": asdict(config.optimiser)}
    found["weights"] = dict(weights or {})
    return dict(json.loads(json.dumps(found)))  # as it will be read


def described(model: ModelConfig) -> dict[str, Any]:
    """The model's section of an identity."""
    return dict(json.loads(json.dumps(_without_places(asdict(model)))))


def _without_places(model: dict[str, Any]) -> dict[str, Any]:
    """A model's section without the folders that its first weights came from."""
    return {k: _without_places(v) if isinstance(v, dict) else v for k, v in model.items() if k != "from_"}


def name(step: int) -> str:
    return f"step-{step:06d}"


def read(folder: Path) -> Record:
    """The record of a checkpoint, or of one that was being written. Raises CheckpointError."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.pop("sha256", None) != fingerprint(found):
            raise ValueError("it is not as it was written")
        return strict.build(Record, found)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / RECORD}: damaged ({_line(error)})") from None


def prove(folder: Path, record: Record) -> None:
    """Raise CheckpointError unless the folder is the checkpoint of its record, every byte of it."""
    if folder.name != name(record.step) or WEIGHTS not in record.files:
        raise CheckpointError(f"{folder}: its record is of {name(record.step)}, not of this folder")
    for file, sha256 in record.files.items():
        try:
            same = hash_file(folder / file) == sha256
        except OSError as error:
            raise CheckpointError(f"{folder / file}: damaged ({error.strerror})") from None
        if not same:
            raise CheckpointError(f"{folder / file}: damaged (its bytes differ from the sha256 in {RECORD})")


def refuse_other(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise CheckpointError naming the first key in which a checkpoint's identity differs from the config's."""
    theirs, ours = dict(_flat(found)), dict(_flat(wanted))
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            raise CheckpointError(
                f"{key}: {folder} was made with {theirs.get(key)}, the config says {ours.get(key)}; "
                "put it back or choose another run.out"
            )


def write(draft: Path, record: Record, model: nn.Module, optimisers: Sequence[Optimizer], tokenizer: Files) -> None:
    """A whole checkpoint in a new folder, on the disk when this returns. Whose it is stands there first."""
    draft.mkdir(parents=True)
    write_record(draft, record)
    flush(draft / RECORD, draft)
    save_model(model, str(draft / WEIGHTS))
    if unread := getattr(model, "unread", None):
        save_file(unread, draft / UNREAD)
    save_file(_optimiser_state(model, optimisers), draft / OPTIMISER)
    for name, file in tokenizer.items():
        (draft / TOKENIZER / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, draft / TOKENIZER / name)
    files = sorted(path for path in draft.rglob("*") if path.is_file() and path != draft / RECORD)
    write_record(draft, replace(record, files={path.relative_to(draft).as_posix(): hash_file(path) for path in files}))
    flush(*sorted(draft.rglob("*"), reverse=True), draft)


def write_record(folder: Path, record: Record) -> None:
    """checkpoint.json, with the hash of itself."""
    found = json.loads(json.dumps(asdict(record)))
    text = json.dumps(found | {"sha256": fingerprint(found)}, indent=2) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def load(folder: Path, model: nn.Module) -> None:
    """Weights; a missing, unexpected or differently shaped one is refused. Unread ones are only carried along."""
    try:
        load_model(model, str(folder / WEIGHTS), strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: the weights of another model ({_line(error)})") from None
    if (folder / UNREAD).is_file():
        model.unread = load_file(folder / UNREAD)


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


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _flat(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield key, tree
        return
    for name, value in tree.items():
        yield from _flat(value, f"{key}.{name}" if key else name)


def flush(*paths: Path) -> None:
    """What a folder holds comes before the folder: a rename must not reach the disk before its contents."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
