"""The record of a finished step: what was done, to what, with which result, and every file with its size and hash.

`manifest.json` is written last and atomically; nothing else means done. It holds nothing of host, time or place, so two
runs of one recipe write the same bytes. Reading checks that the counts add up; verifying reads every file again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas import json_file, strict

MANIFEST = "manifest.json"
_ORDERED = ("inputs", "benchmarks")
_CHECK = "check"


class ManifestError(ValueError):
    """A folder is not what its manifest says: one line naming the first fault."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a step: name relative to the folder, size in bytes, sha256 in hex, rows where it has rows."""

    name: str
    size: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True)
class Counts:
    """The ledger of a step or of a part of it. `rows_in` = `kept` + all of `dropped` + all of `rejected`, always."""

    rows_in: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        out = self.kept + sum(self.dropped.values()) + sum(self.rejected.values())
        if self.rows_in != out or min(self.kept, *self.dropped.values(), *self.rejected.values(), 0) < 0:
            raise ManifestError(f"rows are lost: {self.rows_in} in, {out} kept + dropped + rejected ({self})")

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows_in + other.rows_in,
            self.kept + other.kept,
            _sum(self.dropped, other.dropped),
            _sum(self.rejected, other.rejected),
        )


@dataclass(frozen=True)
class Manifest:
    """One finished step. `inputs` and `benchmarks` map the folder names of the steps that it read to what these are
    named by, in the order in which they make its identity; `facts` is what consumers need."""

    stage: str
    version: int
    identity: str
    parameters: dict[str, Any]
    inputs: dict[str, str]
    counts: Counts
    by_source: dict[str, Counts]
    files: tuple[FileEntry, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    benchmarks: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.by_source and sum(self.by_source.values(), Counts()) != self.counts:
            raise ManifestError(f"rows are lost: the sources' counts {self.by_source} don't add up to {self.counts}")
        for entry in self.files:
            if entry.name.startswith("/") or ".." in entry.name.split("/"):
                raise ManifestError(f"{entry.name!r} leaves the step's folder; this is no manifest of ours")

    def to_json(self) -> str:
        """The bytes of manifest.json: sorted keys but for `_ORDERED`, two-space indent, one trailing newline.

        The last key, `check`, is the sha256 of all others: of names, say, nothing else would tell a changed letter.
        """
        fields = dataclasses.asdict(self)
        text = {key: value if key in _ORDERED else _sorted(value) for key, value in sorted(fields.items())}
        check = hashlib.sha256(_written(text).encode(errors="surrogatepass")).hexdigest()
        return _written({**text, _CHECK: check})


def _written(text: dict[str, Any]) -> str:
    return json.dumps(text, indent=2, ensure_ascii=False) + "\n"


def read(folder: Path) -> Manifest:
    """The manifest of a finished step. Raises ManifestError when there is none, it is broken, or rows are lost."""
    path = Path(folder) / MANIFEST
    try:
        loaded = json_file.read(path)
        if isinstance(loaded, dict):
            loaded.pop(_CHECK, None)
        return strict.build(Manifest, loaded)
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(f"{path}: no such file; this folder is not a finished step, run its stage first") from None
    except OSError as error:
        raise ManifestError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError as error:
        raise ManifestError(f"{path}: not a manifest ({error}); delete the folder and run its stage again") from error


def verify(folder: Path) -> Manifest:
    """Read the manifest and every file it names. Raises ManifestError naming the first file that differs."""
    manifest = read(folder)
    for entry in manifest.files:
        check_file(Path(folder), entry)
    return manifest


def unedited(folder: Path, manifest: Manifest) -> None:
    """Raise ManifestError unless manifest.json is what this manifest is written as, letter for letter."""
    path = Path(folder) / MANIFEST
    if path.read_bytes() != manifest.to_json().encode(errors="surrogatepass"):
        raise ManifestError(f"{path}: was edited or damaged since it was written; delete it and run its stage again")


def check_file(folder: Path, entry: FileEntry) -> None:
    """Raise ManifestError unless the file has the recorded size and sha256."""
    path = folder / entry.name
    if not path.is_file():
        raise ManifestError(f"{path}: missing, the manifest promises {entry.size:,} bytes; run its stage again")
    size = path.stat().st_size
    if size != entry.size:
        raise ManifestError(
            f"{path}: {size:,} bytes, the manifest promises {entry.size:,}; delete the folder and rerun"
        )
    if hash_file(path) != entry.sha256:
        raise ManifestError(f"{path}: its bytes differ from the manifest's sha256; delete the folder and rerun")


def hash_file(path: Path) -> str:
    """sha256 of a file in hex, read in bounded memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe(folder: Path, name: str, rows: int | None = None) -> FileEntry:
    """The FileEntry of a file just written."""
    path = folder / name
    return FileEntry(name, path.stat().st_size, hash_file(path), rows)


def _sorted(value: Any) -> Any:
    """The same JSON with its keys sorted."""
    return json.loads(json.dumps(value, sort_keys=True))


def _sum(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in sorted({*left, *right})}
