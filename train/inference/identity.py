"""Which model it was: a name to read and a hash of its files, by which answers of another one are told apart.

A checkpoint's record has the hashes of its files. Of another folder the beginning and the end of each file are hashed,
and of safetensors those of each tensor: weights may be tens of gigabytes, and a tensor that learnt differs there. Of a
model that learnt its projector alone everything else is as it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from schemas.identity import fingerprint
from train import checkpoint

_ENDS = 1 << 20  # bytes
_OF_TENSOR = 1 << 12
_HEADER = 100_000_000  # bytes at most, by the format


def identity(folder: Path) -> dict[str, str]:
    """Of the folder of a checkpoint, or of any other with a model in it: name and content."""
    place = folder.resolve()
    if (folder / checkpoint.RECORD).is_file():
        name = f"{place.parent.name}/{place.name}"
        return {"name": name, "content": fingerprint(checkpoint.read(folder).files)}
    return {"name": place.name, "content": fingerprint(_files(place))}


def _files(folder: Path) -> dict[str, list[int | str]]:
    """Of all files but hidden ones and cards, on which no answer depends."""
    found = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.suffix != ".md")
    return {path.name: [path.stat().st_size, _ends(path)] for path in found}


def _ends(path: Path) -> str:
    with path.open("rb") as stream:
        first = stream.read(_ENDS)
        stream.seek(max(len(first), path.stat().st_size - _ENDS))
        found = hashlib.sha256(first + stream.read())
        for place, length in _tensors(stream) if path.suffix == ".safetensors" else ():
            stream.seek(place)
            found.update(stream.read(min(_OF_TENSOR, length)))
            stream.seek(place + max(0, length - _OF_TENSOR))
            found.update(stream.read(min(_OF_TENSOR, length)))
        return found.hexdigest()


def _tensors(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """Where the bytes of each tensor begin, and how many they are; nothing of what is no such file."""
    stream.seek(0)
    begin = 8 + (header := int.from_bytes(stream.read(8), "little"))
    try:
        told = json.loads(stream.read(header) if header <= _HEADER else b"{}")
        places = sorted(tuple(told[name]["data_offsets"]) for name in told if name != "__metadata__")
        found = [(begin + int(first), int(last) - int(first)) for first, last in places if 0 <= first <= last]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    yield from found
