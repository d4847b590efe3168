"""What a step is, as one hash.

Identity is the sha256 of canonical JSON: sorted keys, no spaces, UTF-8. Only values with one stable text may take part;
anything else (a function, a set, an open file, NaN) raises instead of hashing an address or an order that changes from
run to run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def canonical(value: Any) -> str:
    """Canonical JSON text of nested dict / list / tuple / dataclass / str / int / float / bool / None.

    Raises TypeError for everything without one stable text, naming its place.
    """
    return json.dumps(_plain(value, "value"), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def fingerprint(value: Any) -> str:
    """sha256 (64 hex digits) of the canonical text."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"{where}: {value} has no canonical text; use a finite number")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{where}: a {type(value).__name__} has no stable text and can't be part of an identity")


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{where}: the key {key!r} is a {type(key).__name__}, wanted text")
    return key
