"""The other side of the line: pairs that were candidates and are no duplicates, a uniform sample of them for a person.

Which ones are kept is decided by a hash of the two contents, the smallest MOST of all: whoever looks for the smallest
of some, and then of those that are left, finds the same, however many workers there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from stages.duplicates.minhash import mixed

MOST = 1000

WHY = {
    "jaccard": "too few n-grams in common",
    "numbers": "other numbers",
    "turns": "other roles, or other short turns",
    "sight": "pictures whose hashes are near and whose signatures differ",
    "files": "pictures whose signatures are near and whose files differ",
}

_WHO = {"part": pa.int32(), "row": pa.int32(), "sample_id": pa.string()}
_SIDES = [(f"{side}_{name}", kind) for side in ("left", "right") for name, kind in _WHO.items()]
MISSES = pa.schema(
    [*_SIDES, ("distance", pa.int32()), ("jaccard", pa.float32()), ("why", pa.string()), ("rank", pa.uint64())]
)


def rank(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """uint64 [n]: where the pairs stand among all, by hashes of the contents of both sides."""
    low, high = np.minimum(left, right).astype(np.uint64), np.maximum(left, right).astype(np.uint64)
    return mixed(mixed(low) + high)


def smallest(tables: Iterable[pa.Table], most: int = MOST) -> pa.Table:
    """The rows of MISSES that stay, in order, each pair once; no more than two tables are held."""
    held = MISSES.empty_table()
    for table in tables:
        both = pa.concat_tables([held, table])
        both = both.sort_by([(name, "ascending") for name in ("rank", *(name for name, _ in _SIDES))])
        pairs = list(zip(both["left_sample_id"].to_pylist(), both["right_sample_id"].to_pylist(), strict=True))
        first = [number for number, pair in enumerate(pairs) if not number or pair != pairs[number - 1]]
        held = both.take(pa.array(first[:most], pa.int64()))
    return held


class Lowest:
    """Of pairs those of the lowest rank, MOST of them. `contents`: uint64, a hash of each row's content."""

    def __init__(self, contents: np.ndarray) -> None:
        self._contents = contents
        self._held = tuple(np.zeros(0, kind) for kind in (np.uint64, np.int64, np.int64, np.uint8))

    def add(self, left: np.ndarray, right: np.ndarray, distance: np.ndarray) -> None:
        ranks = rank(self._contents[left], self._contents[right])
        both = [np.concatenate(pair) for pair in zip(self._held, (ranks, left, right, distance), strict=True)]
        chosen = np.lexsort((both[2], both[1], both[0]))[:MOST]
        self._held = tuple(column[chosen] for column in both)

    def __len__(self) -> int:
        return len(self._held[0])

    def told(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """MISSES of SKETCH rows."""
        listed = zip(*(column.tolist() for column in self._held), strict=True)
        found = [miss(rows[a], rows[b], "sight", distance, None, at) for at, a, b, distance in listed]
        return pa.Table.from_pylist(found, MISSES)


def miss(
    left: Mapping[str, Any], right: Mapping[str, Any], why: str, distance: int | None, jaccard: float | None, at: int
) -> dict[str, Any]:
    """The MISSES row of two SKETCH rows."""
    who = {f"{side}_{name}": row[name] for side, row in (("left", left), ("right", right)) for name in _WHO}
    return {**who, "distance": distance, "jaccard": jaccard, "why": why, "rank": at}
