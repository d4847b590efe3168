"""A file that begins from another one: `extends: FILE`, and beside it what differs.

The other file's keys are taken, and those given beside `extends` replace them, each as a whole. Of mappings that the
caller names (sections) the keys are replaced one by one instead, and null takes a key out there: it is as if neither
file had it, so that it has its default, whatever that is, or is missing. Everywhere else null is a value like others. A
file that is extended extends no other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from schemas import yaml_file
from schemas.strict import RecipeError

KEY = "extends"


def extended(
    given: dict[str, Any], place: Callable[[str], Path], where: str, example: str, sections: Collection[str] = ()
) -> dict[str, Any]:
    """What a mapping comes to. `place`: where a named file lies; `where` and `example` are for errors; sections are
    named by their keys with dots between them. Raises RecipeError."""
    if KEY not in given:
        return given
    name, key = given[KEY], f"{where}.{KEY}" if where else KEY
    if not isinstance(name, str):
        raise RecipeError(f"{key}: got {name!r}, wanted the path of a file, e.g. {example}")
    path = place(name)
    if not path.is_file():
        raise RecipeError(f"{key}: {path}: no such file; paths are relative to the folder of the file that names it")
    base = yaml_file.read(path)
    if KEY in base:
        raise RecipeError(f"{path}: extends another file; one level is all there is, name that file instead of this")
    return _replaced(base, {name: value for name, value in given.items() if name != KEY}, sections, "")


def _replaced(base: dict[str, Any], given: dict[str, Any], sections: Collection[str], at: str) -> dict[str, Any]:
    found = dict(base)
    for key, value in given.items():
        name, old = f"{at}{key}", base.get(key)
        if name in sections and isinstance(old, dict) and isinstance(value, dict):
            value = _replaced(old, value, sections, f"{name}.")
        if at and value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found
