"""What lies in `run.out` and whose it is: one run at a time, its newest whole checkpoint, and nothing else touched.

    step-000120/    the newest checkpoint (checkpoint.py)
    .step-000140/   one being written; a killed process leaves it
    log.jsonl  summary.json  .lock

A folder is a run's own if its record says so: it can be read, its hash is right and its identity is the run's. Only
such folders are ever removed. Whatever else bears one of these names stays, and is moved aside where a checkpoint has
to go.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn
from torch.optim import Optimizer

from train import checkpoint
from train.checkpoint import CheckpointError, Files, Record

_NAME = re.compile(r"(\.?)step-(\d{6,})")


class OutputError(RuntimeError):
    """The folder of a run can't be written: one line."""


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold `out` for one run, before anything in it is read or written. Raises CheckpointError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        stream = (out / ".lock").open("a")
    except OSError as error:
        raise CheckpointError(f"run.out: {out} can't be written ({error.strerror}); change it") from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CheckpointError(f"{out}: another run is training here; wait for it or change run.out") from None
        yield


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Say in one line what keeps this from being written, such as a full disk. Raises OutputError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = " ".join(str(error).split())
        if isinstance(error, OSError) and error.strerror:
            why = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        raise OutputError(
            f"{out}: can't be written ({why}); mend that, such as by making room on the disk, and start the same "
            "command again: it goes on from the newest checkpoint"
        ) from None


def newest(out: Path) -> tuple[Path, Record] | None:
    """The newest whole checkpoint; damaged ones after it are named. Raises CheckpointError if all are damaged."""
    damaged: list[CheckpointError] = []
    for folder in _checkpoints(out):
        try:
            record = checkpoint.read(folder)
            checkpoint.prove(folder, record)
        except CheckpointError as error:
            damaged.append(error)
            continue
        for problem in damaged:
            print(f"note: {problem}; the newest whole checkpoint is {folder.name}", file=sys.stderr, flush=True)
        return folder, record
    if damaged:
        raise CheckpointError(
            f"{damaged[0]}; no whole checkpoint is left in {out}: put it back, or move the folder away to begin anew"
        )
    return None


def save(out: Path, record: Record, model: nn.Module, optimisers: Sequence[Optimizer], tokenizer: Files) -> Path:
    """Write a checkpoint in place of the older ones. Raises OutputError; the older one stays then."""
    folder = out / checkpoint.name(record.step)
    draft = out / f".{folder.name}"
    with writing(out):
        make_room(draft, record.identity)
        try:
            checkpoint.write(draft, record, model, optimisers, tokenizer)
        except (OSError, SafetensorError):
            shutil.rmtree(draft, ignore_errors=True)  # a full disk stays full otherwise
            raise
        make_room(folder, record.identity)
        draft.rename(folder)
        checkpoint.flush(out)
        remove_others(out, folder, record.identity)
    return folder


def make_room(path: Path, identity: dict[str, Any]) -> None:
    """After this nothing bears the name `path`: what is the run's own goes, anything else is moved aside."""
    if _is_own(path, identity):
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        aside = next(p for n in range(1, sys.maxsize) if not (p := path.with_name(f"{path.name}.aside-{n}")).exists())
        path.rename(aside)
        print(f"note: {path} is no checkpoint of this run; moved to {aside.name}", file=sys.stderr, flush=True)


def remove_others(out: Path, keep: Path, identity: dict[str, Any]) -> None:
    """Remove the run's own checkpoints and drafts except `keep`."""
    for path in [path for path in out.iterdir() if path != keep and _NAME.fullmatch(path.name)]:
        if _is_own(path, identity):
            shutil.rmtree(path)


def _checkpoints(out: Path) -> list[Path]:
    """Folders that are named like checkpoints and hold a file of one, the newest first."""
    found = {path: name for path in out.glob("step-*") if (name := _NAME.fullmatch(path.name))}
    held = [path for path in found if any((path / file).exists() for file in (checkpoint.RECORD, checkpoint.WEIGHTS))]
    return sorted(held, key=lambda path: int(found[path][2]), reverse=True)


def _is_own(path: Path, identity: dict[str, Any]) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    try:
        return checkpoint.read(path).identity == identity
    except CheckpointError:
        return False
