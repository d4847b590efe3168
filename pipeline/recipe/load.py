"""A recipe read from its file, with what the command line says instead, and with what its sources extend.

A source may begin from a file: `extends: sources/finevision.yaml`, relative to the recipe's own folder (a path that
begins with `configs/` and isn't there is the program's own file). The file holds the keys of one source; keys given
beside `extends` replace the file's, each as a whole. A file extends no other. Files of
sketches that a section names are found in the same way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.recipe.bundled import find
from pipeline.recipe.types import RESERVED, Recipe
from schemas import strict, yaml_file
from schemas.extends import extended
from schemas.strict import RecipeError


def load(
    path: Path | str,
    out: str | None = None,
    address: str | None = None,
    sets: Sequence[str] = (),
    changes: Sequence[str] = (),
) -> Recipe:
    """Read a recipe; `out`, `address` and `sets` ("run.workers=4") override its `run`. `changes`: what its `data` would
    be with ("data.quality.min_image_side=56"). Raises RecipeError."""
    path = find(path)
    mapping = yaml_file.read(path)
    if "model" in mapping or "optimiser" in mapping:
        raise RecipeError(f"{path}: is a training config; give it to `python -m train fit`")
    given = {key: value for key, value in {"out": out, "address": address}.items() if value is not None}
    mapping["run"] = _overridden(mapping.get("run"), sets, given)
    if isinstance(data := mapping.get("data"), dict):
        data = mapping["data"] = dict(data)
        for text in changes:
            _put(data, text)
        _refuse_empty(data)
        mapping["data"] = {**data, **_extended(data, Path(path).parent), **_sketched(data, Path(path).parent)}
    recipe = strict.build(Recipe, mapping)
    # A job's working folder is a temporary copy that Ray deletes with the job.
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") and not recipe.out.is_absolute():
        raise RecipeError(
            f"run.out: {recipe.run.out!r} is relative, and a Ray job's folder is deleted after it; give a full path"
        )
    return recipe


def located(path: Path | str) -> set[str]:
    """What a recipe has locations for: its sources, its benchmarks, and what every recipe may have."""
    data = yaml_file.read(path).get("data")
    sections = [data.get(name) for name in ("sources", "benchmarks")] if isinstance(data, dict) else []
    return {*RESERVED, *(name for section in sections if isinstance(section, dict) for name in section)}


def _refuse_empty(data: dict[str, Any]) -> None:
    """`dedupe:` with nothing after it reads as null; whether that means "defaults" or "off" nobody can tell."""
    for name, section in data.items():
        if section is None:
            raise RecipeError(f"data.{name}: empty; write {name}: {{}} for the defaults, or delete the line")


def _extended(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The sections of sources, with what their `extends` names put in."""
    found: dict[str, Any] = {}
    for section in ("sources", "benchmarks"):
        if isinstance(data.get(section), dict):
            found[section] = {
                name: _extend(source, folder, f"data.{section}.{name}") if isinstance(source, dict) else source
                for name, source in data[section].items()
            }
    return found


def _sketched(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The sections that name files of sketches, with the places of these."""
    named = {name: section for name, section in data.items() if isinstance(section, dict)}
    found = {name: section.get("sketches") for name, section in named.items()}
    return {
        name: {**named[name], "sketches": [str(_place(f, folder)) if isinstance(f, str) else f for f in files]}
        for name, files in found.items()
        if isinstance(files, list)
    }


def _place(name: str, folder: Path) -> Path:
    """Where a file lies that a recipe in a folder names."""
    path = folder / Path(name).expanduser()
    return path if path.is_file() or not find(name).is_file() else find(name)


def _extend(source: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    return extended(source, lambda name: _place(name, folder), where, "sources/aya.yaml")


def _overridden(run: Any, sets: Sequence[str], given: dict[str, str]) -> Any:
    """The section `run` with the command line's words in it."""
    if run is not None and not isinstance(run, dict):
        return run  # strict says what is wrong with it
    changed = dict(run or {})
    for text in sets:
        _assign(changed, text)
    return changed | given


def _assign(run: dict[str, Any], text: str) -> None:
    if not text.startswith("run.") or "=" not in text:
        raise RecipeError(f"--set {text}: wanted run.KEY=VALUE; `data` is identity, change it in the recipe")
    _put(run, text)


def _put(section: dict[str, Any], text: str) -> None:
    """Put "SECTION.KEY=VALUE" into a section; what it held before is not touched. Raises RecipeError."""
    key, _, value = text.partition("=")
    names = key.split(".", 2) if key.startswith("run.stop_if.") else key.split(".")  # reasons have a dot of their own
    target = section
    for name in names[1:-1]:
        inner = target.get(name)
        if inner is not None and not isinstance(inner, dict):
            raise RecipeError(f"--set {text}: {name} is not a mapping")
        target[name] = dict(inner or {})
        target = target[name]
    if value.lstrip()[:1] not in "'\"[{" and re.search(r"(^|\s)#", value):
        raise RecipeError(f"--set {text}: what follows # would be a comment; put the value in quotes of its own")
    target[names[-1]] = yaml_file.parse(value, f"--set {text}")
