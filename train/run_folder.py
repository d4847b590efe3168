"""What lies in `run.out` and whose it is: one run at a time, its newest whole checkpoint, and nothing else touched.

    step-000120/    the newest checkpoint (checkpoint.py), and those that `run.keep_last` and `keep_every` keep
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError

from train import checkpoint
from train.checkpoint import CheckpointError, Files, Parts, Record
from train.distributed.processes import ALONE, Elsewhere, World

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


class Keep(NamedTuple):
    """Which checkpoints stay: the newest so many, and every one whose step is a multiple."""

    last: int = 1
    every: int | None = None


_NEWEST = Keep()


def save(out: Path, record: Record, parts: Parts, tokenizer: Files, world: World = ALONE, keep: Keep = _NEWEST) -> Path:
    """Write a checkpoint, all ranks together, and remove older ones. Raises OutputError; the older ones stay then."""
    folder = out / checkpoint.name(record.step)
    draft = out / f".{folder.name}"
    try:
        with world.agreed(), writing(out):
            if world.first:
                make_room(draft, record.identity)
                checkpoint.begin(draft, record)
        with world.agreed(), writing(out):
            written = checkpoint.write(draft, parts)
        files = {name: sha256 for part in world.gathered(written) for name, sha256 in part.items()}
        with world.agreed(), writing(out):
            if world.first:
                checkpoint.finish(draft, record, files, tokenizer)
    except (OutputError, Elsewhere):
        if world.first:
            shutil.rmtree(draft, ignore_errors=True)  # a full disk stays full otherwise
        raise
    with world.agreed(), writing(out):
        if world.first:
            make_room(folder, record.identity)
            draft.rename(folder)
            checkpoint.flush(out)
            remove_others(out, folder, record.identity, keep)
    return folder


def make_room(path: Path, identity: dict[str, Any]) -> None:
    """After this nothing bears the name `path`: what is the run's own goes, anything else is moved aside."""
    if _is_own(path, identity):
        shutil.rmtree(path)
    elif path.is_symlink() or path.exists():
        aside = next(p for n in range(1, sys.maxsize) if not (p := path.with_name(f"{path.name}.aside-{n}")).exists())
        path.rename(aside)
        print(f"note: {path} is no checkpoint of this run; moved to {aside.name}", file=sys.stderr, flush=True)


def remove_others(out: Path, newest: Path, identity: dict[str, Any], keep: Keep = _NEWEST) -> None:
    """Remove the run's own checkpoints and drafts except those that stay; what is after the newest is none of them."""
    own = {path: name for path in out.iterdir() if (name := _NAME.fullmatch(path.name)) and _is_own(path, identity)}
    last = int(_NAME.fullmatch(newest.name)[2])  # type: ignore[index]
    steps = sorted(step for name in own.values() if not name[1] and (step := int(name[2])) <= last)
    stay = {step for step in steps if keep.every and step % keep.every == 0} | {*steps[-keep.last :]}
    for path, name in own.items():
        if name[1] or int(name[2]) not in stay:
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
