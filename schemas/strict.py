"""Plain mappings (from YAML or JSON) into frozen dataclasses, strictly.

A key nobody declared is an error that names the nearest declared one; a value of another type is an error that says
what it got and wanted. Nothing is converted silently, except a whole number where a float is declared. Errors are one
line each, because they are printed as they are (exit code 2, no traceback).

A field whose name ends in `_` has the key without it: `from_` is `from`, a word that Python keeps for itself.

Of a union, the value takes the first member that has its shape: `str | tuple[str, ...]`, `Params | Literal["off"]`.
Several dataclasses in one union are told apart by their tag, which has to be given: the field that each declares as a
Literal of one text of its own, such as `scheme: Literal["internvl"] = "internvl"`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class RecipeError(ValueError):
    """A recipe or a command line is wrong: one line that says what, got, wanted and what to do."""


def build(cls: type[T], mapping: Any, where: str = "") -> T:
    """An instance of dataclass `cls` from a mapping; `where` is the dotted path used in errors.

    Raises RecipeError for unknown or missing keys and for values of the wrong type. What the dataclass itself checks in
    `__post_init__` (ValueError) is reported with the same path.
    """
    if not isinstance(mapping, Mapping):
        raise _error(where, f"got {_show(mapping)}, wanted a mapping of keys to values")
    if _is_plainly(cls, mapping):  # a manifest has tens of thousands of such entries
        return cls(**mapping)
    declared = _declared(cls)  # type: ignore[arg-type]
    for key in mapping:
        if key not in declared:
            raise RecipeError(unknown(where, key, declared))
    values = {n: convert(field.hint, mapping[n], _join(where, n)) for n, field in declared.items() if n in mapping}
    missing = [name for name, field in declared.items() if field.required and name not in values]
    if missing:
        raise _error(_join(where, missing[0]), "missing, and it has no default")
    try:
        return cls(**{declared[name].name: value for name, value in values.items()})
    except RecipeError:
        raise
    except ValueError as error:
        raise _error(where, str(error)) from error


def unknown(where: str, key: Any, known: Iterable[str]) -> str:
    """The one-line message for a key that is not declared, with the nearest declared one."""
    names = sorted(known)
    hint = _near(key, names) or f"; known keys: {', '.join(names)}"
    return f"{_join(where, brief(key))}: unknown key{hint}"


class _Field(NamedTuple):
    """What a dataclass declares of one field."""

    name: str
    hint: Any
    required: bool


def _is_plainly(cls: type, mapping: Mapping[Any, Any]) -> bool:
    """Whether all fields are there, in the very types that a dataclass of simple fields without checks declares."""
    kinds = _plain(cls)
    return kinds is not None and mapping.keys() == kinds.keys() and all(type(mapping[n]) in kinds[n] for n in kinds)


@functools.cache
def _plain(cls: type) -> dict[str, tuple[type, ...]] | None:
    """The types of a dataclass's fields; None for one with others, or that checks what it is given."""
    found = {key: _simple(field.hint) if key == field.name else None for key, field in _declared(cls).items()}
    return None if hasattr(cls, "__post_init__") or None in found.values() else found  # type: ignore[return-value]


def _simple(hint: Any) -> tuple[type, ...] | None:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    return kinds if set(kinds) <= {str, int, bool, type(None)} else None


@functools.cache
def _declared(cls: type) -> dict[str, _Field]:
    """The fields of a dataclass by key. Read once: resolving hints takes longer than building a value."""
    hints, fields = typing.get_type_hints(cls), [field for field in dataclasses.fields(cls) if field.init]
    return {f.name.removesuffix("_"): _Field(f.name, hints[f.name], _required(f)) for f in fields}


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def convert(hint: Any, value: Any, where: str = "") -> Any:
    """`value` as what a type hint says, such as a union of dataclasses; `where` as in `build`. Raises RecipeError."""
    if hint is Any:
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        if value is None and type(None) in args:
            return None
        return convert(_member(args, value, where), value, where)
    if origin is typing.Literal:
        return _choice(args, value, where)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin in _MAPPINGS:
        return _mapping(args, value, where)
    if origin is tuple:
        return _sequence(args, value, where)
    return _scalar(hint, value, where)


def _member(args: tuple[Any, ...], value: Any, where: str) -> Any:
    """The member of a union that a value is meant for."""
    kinds = [kind for kind in args if kind is not type(None)]
    classes = tuple(kind for kind in kinds if dataclasses.is_dataclass(kind))
    if classes and isinstance(value, Mapping):
        return classes[0] if len(classes) == 1 else _tagged(classes, value, where)
    if len(kinds) == 1:
        return kinds[0]
    for kind in kinds:
        if _fits(kind, value):
            return kind
    wishes = dict.fromkeys(_wish(kind) for kind in kinds)
    choices = [
        choice for kind in kinds if typing.get_origin(kind) is typing.Literal for choice in typing.get_args(kind)
    ]
    raise _error(where, f"got {_show(value)}, wanted {' or '.join(wishes)}{_near(value, choices)}")


def _tagged(classes: tuple[Any, ...], mapping: Mapping[Any, Any], where: str) -> Any:
    """Of several dataclasses, the one whose tag a mapping gives."""
    tag, members = _tags(classes)
    if tag not in mapping:
        known = {name for cls in classes for name in _declared(cls)}
        for key in mapping:
            if key not in known:
                raise RecipeError(unknown(where, key, known))
        raise _error(_join(where, tag), f"missing; wanted one of {', '.join(members)}")
    return members[_choice(tuple(members), mapping[tag], _join(where, tag))]


@functools.cache
def _tags(classes: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    """The field that tells dataclasses apart, and which of its values stands for which."""
    for name in _declared(classes[0]):
        members = {_own_text(cls, name): cls for cls in classes}
        if None not in members and len(members) == len(classes):
            return name, members  # type: ignore[return-value]
    names = ", ".join(cls.__name__ for cls in classes)
    raise TypeError(f"{names}: dataclasses of one union need a field that each declares as a Literal of one own text")


def _own_text(cls: Any, name: str) -> str | None:
    """The only text that a field of a dataclass can be."""
    field = _declared(cls).get(name)
    choices = typing.get_args(field.hint) if field and typing.get_origin(field.hint) is typing.Literal else ()
    return choices[0] if len(choices) == 1 and isinstance(choices[0], str) else None


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value has the outer shape of a type that is no dataclass."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return _among(value, args)
    if origin in _MAPPINGS:
        return isinstance(value, Mapping)
    if origin is tuple:
        return isinstance(value, list | tuple)
    return _is(value, kind) or (kind is float and _is(value, int))


def _wish(kind: Any) -> str:
    """What a value of a type looks like, to a person."""
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    if origin is tuple:
        return "a list"
    if dataclasses.is_dataclass(kind) or origin in _MAPPINGS:
        return "a mapping of keys to values"
    return _WORDS.get(kind) or str(kind.__name__)


def _choice(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if _among(value, args):
        return value
    raise _error(where, f"got {_show(value)}, wanted one of {', '.join(map(str, args))}{_near(value, args)}")


def _among(value: Any, choices: tuple[Any, ...]) -> bool:
    # True == 1: the type must match as well
    return any(type(value) is type(choice) and value == choice for choice in choices)


def _mapping(args: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _error(where, f"got {_show(value)}, wanted a mapping of keys to values")
    inner = args[1]
    for key in value:
        if not isinstance(key, str):
            raise _error(where, f"got the key {_show(key)}, wanted text; put it in quotes")
    return {key: convert(inner, item, _join(where, brief(key))) for key, item in value.items()}


def _sequence(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """A list as a tuple: of any length where the type says so (`tuple[int, ...]`), else of the type's own."""
    if not isinstance(value, list | tuple):
        one = json.dumps(value, ensure_ascii=False) if isinstance(value, str | int) else ""
        hint = f"; write [{one}]" if 0 < len(one) <= _LONGEST else ""
        raise _error(where, f"got {_show(value)}, wanted a list{hint}")
    inner = args[:1] * len(value) if args[-1] is Ellipsis else args
    if len(inner) != len(value):
        raise _error(where, f"got {_show(value)}, wanted a list of {len(inner)}")
    return tuple(convert(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(inner, value, strict=True)))


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and _is(value, int):
        value = float(value) if abs(value) <= sys.float_info.max else math.inf
    if not _is(value, hint):
        quotes = "; put it in quotes" if hint is str and isinstance(value, bool | int | float) else ""
        raise _error(where, f"got {_show(value)}, wanted {_wish(hint)}{quotes}")
    if hint is float and not math.isfinite(value):
        raise _error(where, f"got {_show(value)}, wanted a finite number")
    return value


def _is(value: Any, kind: type) -> bool:
    # bool is a subclass of int: `rows: true` must not pass as 1
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


_UNIONS = (typing.Union, types.UnionType)
_MAPPINGS = (dict, Mapping)
_LONGEST = 60
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _near(value: Any, choices: Iterable[Any]) -> str:
    near = difflib.get_close_matches(_cut(str(value)), [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _error(where: str, message: str) -> RecipeError:
    return RecipeError(f"{where}: {message}" if where else message)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _show(value: Any) -> str:
    return f"{_cut(repr(value))} ({type(value).__name__})"


def brief(value: Any) -> str:
    """As the user wrote it, unless that would not fit on one line."""
    text = str(value)
    return _cut(text if text.isprintable() else repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
