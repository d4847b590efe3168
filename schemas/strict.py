"""Plain mappings (from YAML or JSON) into frozen dataclasses, strictly.

A key nobody declared is an error that names the nearest declared one; a value of another type is an error that says
what it got and wanted. Nothing is converted silently, except a whole number where a float is declared. Errors are one
line each, because they are printed as they are (exit code 2, no traceback).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class RecipeError(ValueError):
    """A recipe or a command line is wrong: one line that says what, got, wanted and what to do."""


def build(cls: type[T], mapping: Any, where: str = "") -> T:
    """An instance of dataclass `cls` from a mapping; `where` is the dotted path used in errors.

    Raises RecipeError for unknown or missing keys and for values of the wrong type. What the dataclass itself checks in
    `__post_init__` (ValueError) is reported with the same path.
    """
    if not isinstance(mapping, Mapping):
        raise RecipeError(f"{where or 'recipe'}: got {_show(mapping)}, wanted a mapping of keys to values")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            raise RecipeError(unknown(where, key, fields))
    values = {name: _value(hints[name], mapping[name], _join(where, name)) for name in fields if name in mapping}
    missing = [name for name, field in fields.items() if name not in values and _required(field)]
    if missing:
        raise RecipeError(f"{_join(where, missing[0])}: missing, and it has no default; add it to the recipe")
    try:
        return cls(**values)
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError(f"{where or 'recipe'}: {error}") from error


def unknown(where: str, key: Any, known: typing.Iterable[str]) -> str:
    """The one-line message for a key that is not declared, with the nearest declared one."""
    names = sorted(known)
    near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
    return f"{_join(where, _brief(key))}: unknown key; {hint}"


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        # text or a list of texts: by what the value is
        listed = [kind for kind in kinds if typing.get_origin(kind) is tuple and isinstance(value, list | tuple)]
        return _value((listed or kinds)[0], value, where)
    if origin is typing.Literal:
        return _choice(args, value, where)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin in (dict, Mapping) or hint is dict:
        return _mapping(args, value, where)
    if origin is tuple:
        return _sequence(args[0], value, where)
    return _scalar(hint, value, where)


def _choice(args: tuple[Any, ...], value: Any, where: str) -> Any:
    # True == 1: the type must match as well
    if any(value == arg and type(value) is type(arg) for arg in args):
        return value
    near = difflib.get_close_matches(str(value), [str(arg) for arg in args], n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RecipeError(f"{where}: got {_show(value)}, wanted one of {', '.join(map(str, args))}{hint}")


def _mapping(args: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where}: got {_show(value)}, wanted a mapping of keys to values")
    inner = args[1] if args else Any
    for key in value:
        if not isinstance(key, str):
            raise RecipeError(f"{where}: got the key {_show(key)}, wanted text; put it in quotes")
    return {key: _value(inner, item, _join(where, _brief(key))) for key, item in value.items()}


def _sequence(inner: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        hint = f"; write [{json.dumps(value, ensure_ascii=False)}]" if isinstance(value, str | int) else ""
        raise RecipeError(f"{where}: got {_show(value)}, wanted a list{hint}")
    return tuple(_value(inner, item, f"{where}[{i}]") for i, item in enumerate(value))


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is a subclass of int: `rows: true` must not pass as 1.
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise RecipeError(f"{where}: got {_show(value)}, wanted {_WORDS.get(hint, hint.__name__)}")
    return value


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _show(value: Any) -> str:
    return f"{_cut(repr(value))} ({type(value).__name__})"


def _brief(value: Any) -> str:
    """As the user wrote it, unless that would not fit on one line."""
    text = str(value)
    return _cut(text if text.isprintable() else repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
