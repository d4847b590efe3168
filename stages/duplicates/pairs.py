"""SKETCH rows of one bucket -> pairs of samples that are duplicates, each with its distance.

Rows of one key are compared: equal bytes first, then by sight (sight.py), image by image in their order. A pair joins
two samples that match, and only what no other pairs connect, so n copies make n - 1 pairs. `distance` is the largest
Hamming distance of two images' pHashes, 0 for equal bytes. Of texts without pictures there is the `jaccard` similarity
instead (verify.py finds those that are not equal). Pictures that signatures can't tell apart become candidates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.duplicates.candidates import CANDIDATES, picture_candidate
from stages.duplicates.near_misses import smallest
from stages.duplicates.sight import seen
from stages.filters.image_match import Match

_WHO = [("part", pa.int32()), ("row", pa.int32()), ("sample_id", pa.string())]
_RANK = [("source", pa.int32()), ("pixels", pa.int64()), ("rating", pa.float32()), ("content", pa.binary(16))]

MEMBERS = pa.schema([*_WHO, *_RANK, ("pictures", pa.binary(16)), ("phashes", pa.list_(pa.uint64()))])
"""A sample that is in a pair, with what decides whether it stays, and how far it is from others."""

PAIRS = pa.schema(
    [
        *((f"{side}_{name}", kind) for side in ("left", "right") for name, kind in _WHO),
        ("exact", pa.bool_()),
        ("distance", pa.int32()),
        ("jaccard", pa.float32()),
    ]
)

Row = dict[str, Any]


class Found(NamedTuple):
    """The pairs of some keys, the samples in them, each once, pairs that are near by their hashes and no match, and
    those that are decided by their files."""

    pairs: pa.Table
    members: pa.Table
    misses: pa.Table
    candidates: pa.Table


def found(rows: Iterable[Row], match: Match) -> Found:
    """Compare the rows of a bucket, key by key."""
    groups: dict[bytes, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["key"]].append(row)
    pairs, misses, candidates = list[Pair](), list[pa.Table](), list[Row]()
    for group in groups.values():
        if len(group) > 1:
            different = _different(group, pairs)
            if len(different) > 1 and different[0]["images"]:
                by_sight = seen(different, match)
                pairs += [(different[a], different[b], False, bits, None) for a, b, bits in by_sight.same]
                candidates += [picture_candidate(different[a], different[b]) for a, b in by_sight.open]
                if by_sight.misses:
                    misses.append(by_sight.misses.told(different))
    members = {(row["part"], row["row"]): member(row) for left, right, *_ in pairs for row in (left, right)}
    return Found(
        pa.Table.from_pylist([pair_row(*pair) for pair in pairs], PAIRS),
        pa.Table.from_pylist(list(members.values()), MEMBERS),
        smallest(misses),
        pa.Table.from_pylist(candidates, CANDIDATES),
    )


def member(row: Row) -> Row:
    """The MEMBERS row of a SKETCH row."""
    kept = {name: row[name] for name in MEMBERS.names if name in row}
    return {**kept, "phashes": [image["phash"] for image in row["images"]]}


def repeated(keys: pa.ChunkedArray) -> np.ndarray:
    """bool [n]: whether a key is another row's too."""
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy()
    return np.asarray(np.bincount(codes)[codes] > 1) if len(codes) else np.zeros(0, bool)


Pair = tuple[Row, Row, bool, int | None, float | None]


def _different(group: Sequence[Row], pairs: list[Pair]) -> list[Row]:
    """Of rows with the same bytes the first; the others are paired with it."""
    first: dict[tuple[str, ...], Row] = {}
    for row in group:
        same = first.setdefault(tuple(image["sha256"] for image in row["images"]), row)
        if same is not row:
            pairs.append((same, row, True, *((0, None) if row["images"] else (None, 1.0))))
    return list(first.values())


def pair_row(left: Row, right: Row, exact: bool, distance: int | None, jaccard: float | None = None) -> Row:
    """The PAIRS row of two SKETCH rows."""
    sides = {f"{side}_{name}": row[name] for side, row in (("left", left), ("right", right)) for name, _ in _WHO}
    return {**sides, "exact": exact, "distance": distance, "jaccard": jaccard}
