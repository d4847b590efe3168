"""A published folder: `tessera.json` says of every file its size and hash, and what the whole was made of.

It is written last, and the folder gets its name after that: a folder that has it is whole. Its shape is that of a
step's manifest; the ledger in it is that of the whole way, from the rows of the sources to the samples in the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import json_file, strict
from schemas.manifest import Manifest, ManifestError, check_file
from schemas.published import MANIFEST

MAKER = "publish"


def is_one(folder: Path) -> bool:
    """Whether a folder says that it is a publication."""
    return (folder / MANIFEST).is_file()


def opened(folder: Path) -> Manifest:
    """What a publication says of itself. Raises ManifestError where it is none, or says something else by now."""
    path = folder / MANIFEST
    try:
        loaded = json_file.read(path)
        if isinstance(loaded, dict):
            loaded.pop("check", None)
        manifest = strict.build(Manifest, loaded)
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(
            f"{folder}: no whole publication (no {MANIFEST}); `publish RECIPE --to` writes one"
        ) from None
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: not of a publication ({error}); publish again into another folder") from None
    if manifest.stage != MAKER:
        raise ManifestError(f"{path}: not of a publication; publish again into another folder")
    if path.read_bytes() != manifest.to_json().encode(errors="surrogatepass"):
        raise ManifestError(f"{path}: was edited or damaged since it was written; publish again into another folder")
    return manifest


def check(folder: Path) -> Manifest:
    """Read every file of a publication. Raises ManifestError naming the first fault."""
    manifest = opened(folder)
    for entry in manifest.files:
        check_file(folder, entry)
        if entry.rows is not None and (rows := _rows(folder / entry.name)) != entry.rows:
            raise ManifestError(f"{folder / entry.name}: {rows:,} rows in it, {MANIFEST} says {entry.rows:,}")
    if (found := sum(entry.rows or 0 for entry in manifest.files)) != manifest.counts.kept:
        raise ManifestError(f"{folder / MANIFEST}: {manifest.counts.kept:,} samples kept, its files have {found:,}")
    if stray := next(strays(folder, manifest), None):
        raise ManifestError(f"{folder / stray}: is no file of this publication; move it away")
    return manifest


def strays(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Files in the folder that its manifest does not name; hidden ones, such as git's, are nobody's business."""
    known = {MANIFEST, *(entry.name for entry in manifest.files)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in known and not path.is_dir() and not any(one.startswith(".") for one in name.split("/")):
            yield name


def _rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: not a readable parquet file ({error}); publish again") from None
