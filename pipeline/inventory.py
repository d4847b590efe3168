"""What lies at the recipe's locations, as content: names, sizes and sha256 of every file that a source names.

Identity is content, so a plan hashes the files first. Hashes are remembered in `<out>/inventory.json` by path, size and
modification time: planning again costs one `stat` per file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.recipe import Recipe
from schemas.identity import fingerprint
from schemas.manifest import hash_file
from schemas.strict import RecipeError
from stages.download import Found, role
from stages.language import bundled_model
from stages.sources.archive import places
from stages.sources.catalogue import Source
from stages.sources.streams import DataError

_TOKENIZER_FILES = ("tokenizer", "special_tokens", "added_tokens", "chat_template", "vocab", "merges", "spiece")


class Inventory:
    """The files of every source and the hashes of the assets. Raises RecipeError for what isn't there."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe, self._store = recipe, recipe.out / "inventory.json"
        self._known: dict[str, list[Any]] = _load(self._store)
        self._seen: dict[str, list[Any]] = {}
        self.language_model = self._language_model()
        self.tokenizer = self._tokenizer()
        self.sources = {name: self._survey(name, s) for name, s in recipe.data.sources.items()}
        self.benchmarks = {name: self._survey(name, s) for name, s in recipe.data.benchmarks.items()}

    def save(self) -> None:
        """Remember the hashes for the next plan."""
        if self._seen != self._known:
            storage.commit_text(self._store, json.dumps(self._seen, indent=0, sort_keys=True))

    def _survey(self, name: str, source: Source) -> list[Found]:
        """Every file below the source's folder; only named ones are hashed."""
        root = self._place(name)
        if not root.is_dir():
            raise RecipeError(f"run.locations.{name}: {root}: no such folder")
        found = []
        for folder, folders, files in os.walk(root):
            folders.sort()
            for file in sorted(files):
                path = Path(folder) / file
                if path.is_file():
                    relative = path.relative_to(root).as_posix()
                    digest = self._hash(path) if role(relative, source) else ""
                    found.append(Found(relative, path.stat().st_size, digest))
        _check(name, root, source, found)
        return found

    def _tokenizer(self) -> str:
        folder = self._place("tokenizer")
        if not (folder / "tokenizer.json").is_file():
            raise RecipeError(f"run.locations.tokenizer: {folder}: no tokenizer.json there; wanted a tokenizer folder")
        files = sorted(p for p in folder.iterdir() if p.is_file() and p.name.startswith(_TOKENIZER_FILES))
        return fingerprint({path.name: self._hash(path) for path in files})

    def _language_model(self) -> str | None:
        if self._recipe.data.language is None:
            return None
        path = language_model(self._recipe)
        if not path.is_file():
            raise RecipeError(f"run.locations.language_model: {path}: no such file")
        return self._hash(path)

    def _place(self, name: str) -> Path:
        return Path(self._recipe.run.locations[name]).expanduser()

    def _hash(self, path: Path) -> str:
        status = path.stat()
        key, stamp = str(path.absolute()), [status.st_size, status.st_mtime_ns]
        known = self._known.get(key)
        digest = known[2] if known and known[:2] == stamp else hash_file(path)
        self._seen[key] = [*stamp, digest]
        return str(digest)


def language_model(recipe: Recipe) -> Path:
    """The fastText model: the recipe's, or the one in the wheel."""
    place = recipe.run.locations.get("language_model")
    return Path(place) if place else bundled_model()


def _check(name: str, root: Path, source: Source, found: list[Found]) -> None:
    records = [f.file for f in found if role(f.file, source) == "records"]
    if not records:
        some = ", ".join(f.file for f in found[:3]) or "nothing"
        raise RecipeError(
            f"data.sources.{name}.files: nothing below {root} matches {list(source.files)}; it has {some}"
        )
    odd = [file for file in records if not file.endswith(source.suffixes)]
    if odd:
        wanted = ", ".join(source.suffixes)
        raise RecipeError(f"data.sources.{name}.files: {odd[0]}: got another kind, {source.format} wants {wanted}")
    try:
        places(root, source.image_patterns, [f.file for f in found])
    except DataError as error:
        raise RecipeError(f"data.sources.{name}.images: {error}") from None


def _load(store: Path) -> dict[str, list[Any]]:
    try:
        loaded = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # only a memory of hashes: without it every file is hashed again
    return loaded if isinstance(loaded, dict) else {}
