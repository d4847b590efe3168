"""Samples + verdicts -> DRAWN: what a mixture must know of each sample, 24 bytes and the cell that it is in.

draw, tie   who stays of a group is who has the lowest draw, a hash of the seed and of the sample's content: its
            conversation and pictures. So neither names, order nor parts decide, and a higher limit only adds. Of the
            same content the lowest tie, a hash of the id
amount      1, or the tokens that pretokenise would make; 0: not counted and not chosen, since another filter drops the
            sample, or since pretokenise will (then it says why)

A cell is what samples have in common that a rule can ask for: source, subset, language, kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from schemas.sample import LABEL
from schemas.verdict import KEPT_TURNS
from stages.census import languages, sized
from stages.filters.detect import UNDETERMINED
from stages.filters.text_key import conversation_key
from stages.kept_turns import Kept, cut, kept_turns
from stages.mixture.params import KINDS, Key
from stages.pretokenise import first_drop

# What is read of SAMPLE, in parquet's names
COLUMNS = (
    *("sample_id", "source", "subset", "messages", "declared_language"),
    *(f"image_info.list.element.{name}" for name in ("sha256", "width", "height")),
)

# and of other filters' verdicts
JUDGED = ("sample_id", "reason", "language", KEPT_TURNS)

DRAWN = pa.schema(
    [
        ("draw", pa.uint64()),
        ("tie", pa.uint64()),
        ("amount", pa.int32()),
        ("subset", LABEL),
        ("language", LABEL),
        ("kind", LABEL),
    ]
)

Amount = Callable[[Mapping[str, Any]], int]
"""How much a sample is, of its row as `rows_of` wants it."""


class Cell(NamedTuple):
    """What samples have in common that a rule can ask for."""

    source: str
    subset: str
    language: str
    kind: str

    def group(self, key: Key) -> str:
        """The name of its group."""
        return f"{self.source}/{self.subset}" if key == "subset" else str(getattr(self, key))


def drawn(samples: pa.Table, verdicts: Mapping[str, pa.Table], seed: int, amount: Amount | None) -> pa.Table:
    """DRAWN rows of samples, one for each; `amount`: None counts samples. Raises ValueError for others' verdicts."""
    drops = first_drop(samples["sample_id"], verdicts)
    turns, spoken = kept_turns(samples.num_rows, verdicts), languages(samples, verdicts)
    rows = []
    for row, (judge, _), kept, language in zip(samples.to_pylist(), drops, turns, spoken, strict=True):
        counted = 0 if judge is not None else 1 if amount is None else amount(_cut(row, kept))
        rows.append(
            {
                "draw": _draw(seed, row) if counted else 0,
                "tie": _number(row["sample_id"].encode("utf-8", "surrogatepass")) if counted else 0,
                "amount": counted,
                "subset": row["subset"] or row["source"],
                "language": language or UNDETERMINED,
                "kind": KINDS[not row["image_info"]],
            }
        )
    return pa.Table.from_pylist(rows, DRAWN)


def cells(table: pa.Table, source: str) -> tuple[np.ndarray, list[Cell]]:
    """The cells of DRAWN rows, and for each row the number of its own among them."""
    codes, values = np.zeros(table.num_rows, np.int64), []
    for name in Cell._fields[1:]:
        column = table[name].combine_chunks()
        values.append(column.dictionary.to_pylist())
        codes = codes * len(values[-1]) + column.indices.to_numpy(zero_copy_only=False)
    used, number = np.unique(codes, return_inverse=True)
    places = np.unravel_index(used, [max(1, len(names)) for names in values])
    found = zip(*(list(map(names.__getitem__, at)) for names, at in zip(values, places, strict=True)), strict=True)
    return number.astype(np.int32), [Cell(source, *one) for one in found]


def _cut(row: Mapping[str, Any], kept: Kept) -> Mapping[str, Any]:
    return cut(sized(row), kept)


def _draw(seed: int, row: Mapping[str, Any]) -> int:
    pictures = "".join(info["sha256"] for info in row["image_info"] or [])
    return _number(f"mixture {seed} {pictures}".encode() + conversation_key(row["messages"]))


def _number(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big")
