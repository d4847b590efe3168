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
from stages.duplicates.text_sketch import first_bits

MOST = 1000
_PICTURES = 2048  # of a group, those with the smallest hash of their content, are compared with each other

WHY = {
    "jaccard": "too few n-grams in common",
    "numbers": "other numbers",
    "turns": "other roles, or other short turns",
    "sight": "pictures whose hashes are near and which look different",
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


def by_sight(
    rows: Sequence[Mapping[str, Any]], phashes: Sequence[np.ndarray], heads: np.ndarray, radius: int
) -> pa.Table:
    """MISSES of SKETCH rows that were compared by sight: within the radius in every position, and not connected."""
    contents = np.array([first_bits(row["content"]) for row in rows], np.uint64)
    some = np.sort(np.argsort(contents, kind="stable")[:_PICTURES])
    far = np.max([np.bitwise_count(hashes[some, None] ^ hashes[None, some]) for hashes in phashes], axis=0)
    left, right = np.nonzero(np.triu(far <= radius, 1) & (heads[some, None] != heads[None, some]))
    ranks = rank(contents[some[left]], contents[some[right]])
    first = np.argsort(ranks, kind="stable")[:MOST]
    found = zip(some[left[first]].tolist(), some[right[first]].tolist(), far[left, right][first].tolist(), strict=True)
    told = [
        miss(rows[a], rows[b], "sight", distance, None, place)
        for (a, b, distance), place in zip(found, ranks[first].tolist(), strict=True)
    ]
    return pa.Table.from_pylist(told, MISSES)


def miss(
    left: Mapping[str, Any], right: Mapping[str, Any], why: str, distance: int | None, jaccard: float | None, at: int
) -> dict[str, Any]:
    """The MISSES row of two SKETCH rows."""
    who = {f"{side}_{name}": row[name] for side, row in (("left", left), ("right", right)) for name in _WHO}
    return {**who, "distance": distance, "jaccard": jaccard, "why": why, "rank": at}
