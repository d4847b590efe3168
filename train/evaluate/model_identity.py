"""Which model it was: a name to read and a hash of its files, by which answers of another one are told apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

from schemas.identity import fingerprint
from train import checkpoint, config, run_folder
from train.checkpoint import RECORD

_ENDS = 1 << 20  # bytes of a file's beginning and end that are hashed: weights have no two alike there


def identity(place: str) -> dict[str, str]:
    """Of a checkpoint, a run's folder, a training config, a folder of any model, or a name on the Hub."""
    path = Path(place).expanduser()
    if path.is_file():
        path = Path(config.load(path).run.out)
    if not path.is_dir():
        return {"name": place}
    if not (path / RECORD).is_file() and (found := run_folder.newest(path)):
        path = found[0]
    if (path / RECORD).is_file():
        name = f"{path.resolve().parent.name}/{path.name}"
        return {"name": name, "content": fingerprint(checkpoint.read(path).files)}
    return {"name": path.resolve().name, "content": fingerprint(_files(path))}


def _files(folder: Path) -> dict[str, list[int | str]]:
    """Size and hash of each file; of a large one its ends."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: [path.stat().st_size, _ends(path)] for path in found}


def _ends(path: Path) -> str:
    with path.open("rb") as stream:
        first = stream.read(_ENDS)
        stream.seek(max(len(first), path.stat().st_size - _ENDS))
        return hashlib.sha256(first + stream.read()).hexdigest()


def place_of(place: str) -> Path:
    """Where its evaluation goes if nobody says: beside the model, or here for one of the Hub."""
    path = Path(place).expanduser()
    if path.is_file():
        path = Path(config.load(path).run.out)
    if path.is_dir():
        return path.resolve().parent / f"evaluation-{path.resolve().name}"
    return Path(f"evaluation-{path.name}")
