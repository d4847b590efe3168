"""What the sections check of their values: bounds, paths, and that of several keys one is there."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from schemas import strict

# No run comes near; beyond, numbers no longer fit where they are used, or a model takes forever to be built
MOST, WIDEST, DEEPEST = 2**53, 2**20, 1000


def within(config: Any, least: int, most: int, *names: str) -> None:
    assert set(names) <= {field.name for field in fields(config)}
    for name in names:
        value = getattr(config, name)
        if not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most:,}"
            raise ValueError(f"{name} is {strict.brief(value)}, wanted {bound}")


def optional_within(config: Any, least: int, most: int, *names: str) -> None:
    within(config, least, most, *(name for name in names if getattr(config, name) is not None))


def weights(config: Any) -> None:
    """The folder of a key `from`, if there is one."""
    if config.from_ is not None:
        path(config, "from_")


def one_of(config: Any, *names: str, least: int = 1) -> None:
    """Exactly one is there, and it is a list or, if a whole number, at least so much."""
    given = [name for name in names if getattr(config, name) not in (None, ())]
    if len(given) != 1:
        found = f"has {' and '.join(given)}" if given else "has none"
        raise ValueError(f"{found} of {', '.join(names)}; wanted exactly one of them")
    if isinstance(getattr(config, given[0]), int):
        within(config, least, MOST, given[0])


def path(config: Any, name: str) -> None:
    """A place that can be one; `~` is the home folder."""
    object.__setattr__(config, name, _place(name, getattr(config, name)))  # frozen, and not yet seen by anyone


def paths(config: Any, name: str) -> None:
    """The same of one, of a list, or by names."""
    value = getattr(config, name)
    if isinstance(value, str):
        return path(config, name)
    if not value:
        raise ValueError(f"{name} is empty, wanted the path of a folder")
    found = (
        {key: _place(f"{name}.{key}", path) for key, path in value.items()}
        if isinstance(value, dict)
        else tuple(_place(f"{name}[{number}]", path) for number, path in enumerate(value))
    )
    object.__setattr__(config, name, found)


def _place(name: str, value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError(f"{name.rstrip('_')} is {value!r}, wanted the path of a folder")
    try:
        return str(Path(value).expanduser())
    except RuntimeError:
        raise ValueError(f"{name.rstrip('_')} is {value!r}, and there is no such home folder") from None


def multiple(config: Any, name: str, of: str) -> None:
    if getattr(config, name) % getattr(config, of):
        raise ValueError(f"{name} is {getattr(config, name)}, wanted a multiple of {of} = {getattr(config, of)}")
