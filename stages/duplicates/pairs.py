"""SKETCH rows of one bucket -> pairs of samples that are duplicates, each with its distance.

Rows of one key are compared: equal bytes first, then by sight (stages/filters/image_match.py), image by image in their
order. A pair joins a sample to another one of its cluster, so n copies make n - 1 pairs. `distance` is the largest
Hamming distance of two images' pHashes, 0 for equal bytes; `direct`: whether the two match, and not only through
others. Of texts without pictures there is the `jaccard` similarity instead (verify.py finds those that are not equal).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from stages.duplicates.near_misses import by_sight, smallest
from stages.filters.image_match import Match, Pictures, apart, clusters, matches

_WHO = [("part", pa.int32()), ("row", pa.int32()), ("sample_id", pa.string())]
_RANK = [("source", pa.int32()), ("pixels", pa.int64()), ("rating", pa.float32()), ("content", pa.binary(16))]

MEMBERS = pa.schema([*_WHO, *_RANK, ("pictures", pa.binary(16)), ("phashes", pa.list_(pa.uint64()))])
"""A sample that is in a pair, with what decides whether it stays, and how far it is from others."""

PAIRS = pa.schema(
    [
        *((f"{side}_{name}", kind) for side in ("left", "right") for name, kind in _WHO),
        ("exact", pa.bool_()),
        ("distance", pa.int32()),
        ("direct", pa.bool_()),
        ("jaccard", pa.float32()),
    ]
)

Row = dict[str, Any]


class Found(NamedTuple):
    """The pairs of some keys, the samples in them, each once, and pairs that are near by their hashes and no match."""

    pairs: pa.Table
    members: pa.Table
    misses: pa.Table


def found(rows: Iterable[Row], match: Match) -> Found:
    """Compare the rows of a bucket, key by key."""
    groups: dict[bytes, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["key"]].append(row)
    misses: list[pa.Table] = []
    pairs = [pair for group in groups.values() if len(group) > 1 for pair in _compared(group, match, misses)]
    members = {(row["part"], row["row"]): member(row) for left, right, *_ in pairs for row in (left, right)}
    return Found(
        pa.Table.from_pylist([pair_row(*pair) for pair in pairs], PAIRS),
        pa.Table.from_pylist(list(members.values()), MEMBERS),
        smallest(misses),
    )


def member(row: Row) -> Row:
    """The MEMBERS row of a SKETCH row."""
    kept = {name: row[name] for name in MEMBERS.names if name in row}
    return {**kept, "phashes": [image["phash"] for image in row["images"]]}


def repeated(keys: pa.ChunkedArray) -> np.ndarray:
    """bool [n]: whether a key is another row's too."""
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy()
    return np.asarray(np.bincount(codes)[codes] > 1) if len(codes) else np.zeros(0, bool)


Pair = tuple[Row, Row, bool, int | None, bool, float | None]


def _compared(group: Sequence[Row], match: Match, misses: list[pa.Table]) -> Iterator[Pair]:
    first: dict[tuple[str, ...], Row] = {}
    for row in group:
        same = first.setdefault(tuple(image["sha256"] for image in row["images"]), row)
        if same is not row:
            yield same, row, True, *((0, True, None) if row["images"] else (None, True, 1.0))
    rows = list(first.values())
    if len(rows) > 1 and rows[0]["images"]:
        yield from _seen(rows, match, misses)


def _seen(rows: Sequence[Row], match: Match, misses: list[pa.Table]) -> Iterator[Pair]:
    """Pairs by sight, of rows with equally many images."""
    positions = [Pictures.of([row["images"][number] for row in rows]) for number in range(len(rows[0]["images"]))]
    heads = clusters(positions, match)
    misses.append(by_sight(rows, [pictures.phash for pictures in positions], heads, match.radius))
    (lost,) = np.nonzero(heads != np.arange(len(rows)))
    sides = [(pictures.take(heads[lost]), pictures.take(lost)) for pictures in positions]
    direct = matches([left for left, _ in sides], [right for _, right in sides], match)
    distances = np.max([apart(left, right) for left, right in sides], axis=0)
    for number, is_direct, distance in zip(lost.tolist(), direct.tolist(), distances.tolist(), strict=True):
        yield rows[heads[number]], rows[number], False, distance, is_direct, None


def pair_row(
    left: Row, right: Row, exact: bool, distance: int | None, direct: bool, jaccard: float | None = None
) -> Row:
    """The PAIRS row of two SKETCH rows."""
    sides = {f"{side}_{name}": row[name] for side, row in (("left", left), ("right", right)) for name, _ in _WHO}
    return {**sides, "exact": exact, "distance": distance, "direct": direct, "jaccard": jaccard}
