"""A recipe with what its locations hold, and what was found of its finished steps.

Manifests are read once and remembered: a manifest of 100,000 files costs seconds, and every step that follows asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.graph.content import Content
from pipeline.graph.errors import MissingInput
from pipeline.recipe.types import Recipe
from schemas.manifest import MANIFEST, Manifest, ManifestError, read


class Named(Protocol):
    """A step, as far as its manifest is concerned."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> str: ...
    @property
    def identity(self) -> str: ...


@dataclass(frozen=True)
class Context:
    """What the stages are asked with. `content`: the files of the sources and the hashes of the assets."""

    recipe: Recipe
    content: Content
    _manifests: dict[str, Manifest] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.recipe.out.absolute()

    def fetched(self, name: str) -> bool:
        """Whether a source's files are fetched, and don't lie in a folder of this machine."""
        return name in self.content.remotes

    def place(self, name: str) -> Path:
        return Path(self.recipe.run.locations[name]).expanduser().absolute()

    def manifest(self, step: Named) -> Manifest | None:
        """The manifest of a step that is done, or None. A broken one is an error, never a reason to start over."""
        if not step.identity:
            return None
        known = self._manifests.get(step.folder)
        if known is None and (self.out / step.folder / MANIFEST).is_file():
            known = self._read(step)
            if known is not None:
                self._manifests[step.folder] = known
        return known

    def finished(self, step: Named) -> Manifest:
        """The manifest of a step that must be done. Raises MissingInput."""
        manifest = self.manifest(step)
        if manifest is None:
            raise MissingInput(f"{step.name} is not finished; run `python -m pipeline run RECIPE` first")
        return manifest

    def remember(self, step: Named, manifest: Manifest) -> None:
        """A step has just been finished."""
        self._manifests[step.folder] = manifest

    def forget(self, step: Named) -> None:
        """A step is due again: its manifest is no longer what is there."""
        self._manifests.pop(step.folder, None)

    def _read(self, step: Named) -> Manifest | None:
        folder = self.out / step.folder
        manifest = read(folder)
        if manifest.identity != step.identity:
            raise ManifestError(f"{folder}: holds another step ({manifest.identity[:16]}); move it away")
        # A file that is gone or cut is made again; whether the bytes of the others are right is for `verify` to read.
        return None if next(_lost(folder, manifest), None) else manifest

    def lost(self, step: Named) -> list[str]:
        """The files that a finished step has no more, or not in full: why it is not done, though it was."""
        folder = self.out / step.folder
        return list(_lost(folder, read(folder))) if (folder / MANIFEST).is_file() else []


def _lost(folder: Path, manifest: Manifest) -> Iterator[str]:
    for file in manifest.files:
        path = folder / file.name
        if not path.is_file() or path.stat().st_size != file.size:
            yield file.name
