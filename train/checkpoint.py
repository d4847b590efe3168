"""A checkpoint: everything that continues a run bit by bit, or answers questions without the shards.

    <out>/step-000120/
      model-r00000.safetensors      weights: of each parameter the rows that rank 0 held; then -r00001 and so on
      optimiser-r00000.safetensors  their state, by the name of the parameter, in the same way
      unread.safetensors            pretrained weights of layers that nothing reads, if there are any
      checkpoint.json               identity (data, model, optimiser), facts of the shards, plan, position, hashes
      tokenizer/                    copy of the shards' tokenizer and chat template

Each rank writes what it holds and reads what it will hold (tensor_files.py), so a checkpoint of any number of processes
continues on any other, and one process is no special case. (The index of torch's own distributed ones is a pickle.)

No file is a pickle. All is written to a hidden folder, flushed, then renamed: a folder named `step-*` is whole,
whenever the processes were killed; what changed later is found by the hashes, of which the record has one of its own.
Continuing compares identities and refuses with the first key that differs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from schemas import strict
from schemas.identity import fingerprint
from schemas.manifest import hash_file
from train import tensor_files
from train.config import Config, ModelConfig
from train.tensor_files import Stored, Tensors

RECORD, UNREAD, TOKENIZER = "checkpoint.json", "unread.safetensors", "tokenizer"
MODEL, OPTIMISER = "model", "optimiser"
WEIGHTS = tensor_files.file_name(MODEL, 0)

Files = Mapping[str, Path]  # name in the tokenizer's folder -> where the file lies now
Parts = Mapping[str, Tensors]
"""File -> the tensors that this rank writes there."""


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


def refuse_other(
    folder: Path,
    found: dict[str, Any],
    wanted: dict[str, Any],
    cure: str = "put it back or choose another run.out",
) -> None:
    """Raise CheckpointError naming the first key in which a checkpoint's identity differs from the config's."""
    theirs, ours = dict(_flat(found)), dict(_flat(wanted))
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            raise CheckpointError(
                f"{key}: {folder} was made with {theirs.get(key)}, the config says {ours.get(key)}; {cure}"
            )


def parts(model: nn.Module, optimisers: Sequence[Optimizer], rank: int = 0) -> Parts:
    """What this rank's files will hold, copied: the model may go on learning."""
    found = {
        tensor_files.file_name(MODEL, rank): tensor_files.own_rows(_weights(model), rank == 0),
        tensor_files.file_name(OPTIMISER, rank): tensor_files.own_rows(_state(model, optimisers), rank == 0),
    }
    if rank == 0 and (unread := getattr(model, "unread", None)):
        found[UNREAD] = unread
    return found


def begin(draft: Path, record: Record) -> None:
    """A new folder. Whose it is stands there first."""
    draft.mkdir(parents=True)
    write_record(draft, record)
    flush(draft / RECORD, draft)


def write(draft: Path, of: Parts) -> dict[str, str]:
    """One rank's files; on the disk when this returns, with the hash of each."""
    for file, tensors in of.items():
        tensor_files.write(draft / file, tensors)
        flush(draft / file)
    return {file: hash_file(draft / file) for file in of}


def finish(draft: Path, record: Record, written: Mapping[str, str], tokenizer: Files) -> None:
    """The rest, when all ranks have written; the folder is whole and on the disk when this returns."""
    (draft / TOKENIZER).mkdir()
    for name, file in tokenizer.items():
        (draft / TOKENIZER / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, draft / TOKENIZER / name)
    copied = {f"{TOKENIZER}/{name}": hash_file(draft / TOKENIZER / name) for name in tokenizer}
    write_record(draft, replace(record, files=dict(sorted({**written, **copied}.items()))))
    flush(*sorted((draft / TOKENIZER).rglob("*"), reverse=True), draft / TOKENIZER, draft / RECORD, draft)


def write_record(folder: Path, record: Record) -> None:
    """checkpoint.json, with the hash of itself."""
    found = json.loads(json.dumps(asdict(record)))
    text = json.dumps(found | {"sha256": fingerprint(found)}, indent=2) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def load(folder: Path, model: nn.Module) -> None:
    """Weights; a missing, unexpected or differently shaped one is refused. Unread ones are only carried along."""
    stored, wanted = _stored(folder, MODEL), _weights(model)
    for name in sorted(stored.parts.keys() ^ wanted.keys()):
        raise _of_another(folder, f"{name} is in one of both only")
    with torch.no_grad():
        for name, tensor in wanted.items():
            if (shape := stored.shape(name)) != tuple(tensor.shape):
                raise _of_another(folder, f"{name} is {list(shape)}, wanted {list(tensor.shape)}")
            tensor.copy_(stored.read_like(name, tensor))
    if (folder / UNREAD).is_file():
        model.unread = load_file(folder / UNREAD)


def load_optimisers(folder: Path, model: nn.Module, optimisers: Sequence[Optimizer]) -> None:
    """What they remember of each parameter, where their steps want it."""
    stored = _stored(folder, OPTIMISER)
    parameters = dict(model.named_parameters())
    holder = {id(p): (each, group) for each in optimisers for group in each.param_groups for p in group["params"]}
    # A parameter that never had a gradient (the tower, while all samples were text) has no state yet.
    for key in stored.parts:
        name, _, field = key.rpartition(".")
        parameter = parameters[name]
        optimiser, group = holder[id(parameter)]
        # As torch's load_state_dict: a count of steps is on the CPU, unless a kernel of the device reads it.
        there = field != "step" or group.get("fused") or group.get("capturable")
        found = stored.read_like(key, parameter)
        optimiser.state[parameter][field] = found.to(parameter.device) if there else found


def weights(folder: Path) -> list[Path]:
    """The files of a checkpoint's weights, in order."""
    names = tensor_files.of_kind(MODEL, [*read(folder).files])
    return [folder / name for name in names]


def _stored(folder: Path, kind: str) -> Stored:
    return Stored([folder / name for name in tensor_files.of_kind(kind, [*read(folder).files])])


def _of_another(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{folder}: the weights of another model ({why})")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter once, a tied one by its first name, and what else the model keeps."""
    found: dict[str, Tensor] = dict(model.named_parameters())
    names = {id(parameter) for parameter in found.values()}
    kept = model.state_dict(keep_vars=True)
    return found | {name: tensor for name, tensor in kept.items() if name not in found and id(tensor) not in names}


def _state(model: nn.Module, optimisers: Sequence[Optimizer]) -> dict[str, Tensor]:
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
