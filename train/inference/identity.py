"""Which model it was: a name to read and a hash of its files, by which answers of another one are told apart.

A checkpoint's record has the hashes of its files. Of another folder the beginning and the end of each file are hashed:
its weights may be tens of gigabytes, and two models have the same ones neither there nor there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from schemas.identity import fingerprint
from train import checkpoint

_ENDS = 1 << 20  # bytes


def identity(folder: Path) -> dict[str, str]:
    """Of the folder of a checkpoint, or of any other with a model in it: name and content."""
    place = folder.resolve()
    if (folder / checkpoint.RECORD).is_file():
        name = f"{place.parent.name}/{place.name}"
        return {"name": name, "content": fingerprint(checkpoint.read(folder).files)}
    return {"name": place.name, "content": fingerprint(_files(place))}


def _files(folder: Path) -> dict[str, list[int | str]]:
    found = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: [path.stat().st_size, _ends(path)] for path in found}


def _ends(path: Path) -> str:
    with path.open("rb") as stream:
        first = stream.read(_ENDS)
        stream.seek(max(len(first), path.stat().st_size - _ENDS))
        return hashlib.sha256(first + stream.read()).hexdigest()
