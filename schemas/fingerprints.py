"""What token ids and tile plans were made with, as two hashes: a manifest and an index say them of their shards.

tokenizer  of the names and hashes of the files that lie beside the shards, image tokens and template included
scheme     of the tile scheme with all its numbers

Whoever holds a tokenizer or a scheme of its own compares before it uses ids or grids: those of another tokenizer are
ids as well, and nothing else would tell.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.identity import fingerprint

_KEY = b"fingerprints"


@dataclass(frozen=True)
class Fingerprints:
    """Two sha256 in hex."""

    tokenizer: str
    scheme: str

    def differ(self, other: Fingerprints) -> str:
        """Which of the two are others, in words; "" if none is."""
        names = [name for name in ("tokenizer", "scheme") if getattr(self, name) != getattr(other, name)]
        return ", ".join(f"{name} {getattr(self, name)[:8]} and not {getattr(other, name)[:8]}" for name in names)


def taken(tokenizer: Mapping[str, str], scheme: Mapping[str, Any]) -> Fingerprints:
    """Of the files of a tokenizer, name -> sha256, and of a scheme as its section of a recipe."""
    return Fingerprints(of_tokenizer(tokenizer), fingerprint(scheme))


def of_tokenizer(files: Mapping[str, str]) -> str:
    """Of the files of a tokenizer: name -> sha256."""
    return fingerprint(dict(sorted(files.items())))


def written(schema: pa.Schema, found: Fingerprints) -> pa.Schema:
    """A schema that says them."""
    return schema.with_metadata({**(schema.metadata or {}), _KEY: json.dumps(dataclasses.asdict(found)).encode()})


def read(schema: pa.Schema) -> Fingerprints | None:
    """What a schema says; None if it says nothing that can be read."""
    try:
        return Fingerprints(**json.loads((schema.metadata or {})[_KEY]))
    except (KeyError, TypeError, ValueError):
        return None
