"""Several shard folders as one: their samples end to end, in the order of the config.

All must be made with one tokenizer and one tile scheme, for one model reads them. A source is known by its name, so two
folders with a source of the same name are refused, unless the folders have names of their own: sources are then called
`folder:source`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from schemas.strict import RecipeError
from train.data import left_out
from train.data.index import Labels
from train.data.shards import Facts, Sample, Shards


class Folders:
    """As `Shards`, of several of them."""

    def __init__(self, folders: Sequence[Shards], names: Sequence[str] = ()) -> None:
        """`names`: of the folders, where they have some."""
        self.folders = folders
        self._names = names
        self._ends = np.cumsum([len(folder) for folder in folders])
        _refuse_mixed_up(folders)
        self.num_tokens = np.concatenate([folder.num_tokens for folder in folders])
        self.num_target_tokens = np.concatenate([folder.num_target_tokens for folder in folders])
        self.num_tiles = np.concatenate([folder.num_tiles for folder in folders])
        self.source = _joined([_qualified(folder.source, name) for folder, name in self._named()])
        self.subset = _joined([folder.subset for folder in folders])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def facts(self) -> Facts:
        return self.folders[0].facts

    @property
    def num_left_out(self) -> int:
        return sum(folder.num_left_out for folder in self.folders)

    @property
    def tokenizer(self) -> dict[str, Path]:
        return self.folders[0].tokenizer

    @property
    def identity(self) -> dict[str, Any]:
        """By name or place of the folder."""
        named = enumerate(self._named())
        return {name or str(number): folder.identity for number, (folder, name) in named}

    def sample(self, number: int) -> Sample:
        """One sample, proven to be what was written, of a source by its name here. Raises ManifestError."""
        at = int(np.searchsorted(self._ends, number, "right"))
        found = self.folders[at].sample(number - int(self._ends[at]) + len(self.folders[at]))
        return replace(found, source=self.source.names[self.source.codes[number]])

    def _named(self) -> list[tuple[Shards, str]]:
        return list(zip(self.folders, self._names or [""] * len(self.folders), strict=True))


AnyShards = Shards | Folders


def open_shards(paths: str | Sequence[str] | Mapping[str, str], leave_out: str | None = None) -> AnyShards:
    """What `data.shards` says: a path, a list of them, or names and paths; without the samples of a file."""
    ids = left_out.read(leave_out) if leave_out else frozenset[str]()
    names = list(paths) if isinstance(paths, Mapping) else []
    places = [paths] if isinstance(paths, str) else list(paths.values()) if isinstance(paths, Mapping) else paths
    opened = [Shards(path, ids) for path in places]
    if leave_out:
        left_out.refuse_unknown(leave_out, ids.difference(*(each.ids_left_out for each in opened)))
    if names:
        return Folders(opened, names)
    _refuse_equal_sources(opened)
    return opened[0] if len(opened) == 1 else Folders(opened)


def _refuse_mixed_up(folders: Sequence[Shards]) -> None:
    for folder in folders[1:]:
        if why := folder.facts.fingerprints.differ(folders[0].facts.fingerprints):
            raise RecipeError(
                f"data.shards: {folder.folder} is of {why} of {folders[0].folder}; one model can't read both, run "
                "pretokenise for both with one recipe"
            )
        if folder.facts != folders[0].facts:
            raise RecipeError(f"data.shards: the facts of {folder.folder} are not those of {folders[0].folder}")


def _refuse_equal_sources(folders: Sequence[Shards]) -> None:
    seen: dict[str, Shards] = {}
    for folder in folders:
        for name in folder.source.names:
            if name in seen:
                raise RecipeError(
                    f"data.shards: {seen[name].folder} and {folder.folder} both have a source {name!r}; name the "
                    "folders, as in {a: PATH, b: PATH}"
                )
            seen[name] = folder


def _qualified(labels: Labels, folder: str) -> Labels:
    return Labels(tuple(f"{folder}:{name}" if folder else name for name in labels.names), labels.codes)


def _joined(parts: Sequence[Labels]) -> Labels:
    """One table of names, in order."""
    names = sorted({name for part in parts for name in part.names})
    place = {name: number for number, name in enumerate(names)}
    codes = [np.array([place[name] for name in part.names], np.int32)[part.codes] for part in parts]
    return Labels(tuple(names), np.concatenate(codes))
