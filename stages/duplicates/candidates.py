"""Pairs that may be duplicates and for which the sketches do not suffice: CANDIDATES, and how texts become some.

Each is owned by the part of its right side, which comes later in the order of samples: whatever found it, and however
often, it comes to one task there, which reads what the samples hold. `kind` says who decides (stages/duplicates/
verify.py); `weight` is about how much has to be held in memory to decide, in numbers of 8 bytes.

Texts with a band in common are candidates. Of many with one band each is compared with the first, the second and the
one before it, not with all: n texts make less than 3 n pairs, and those that are near each other have other bands too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from stages.duplicates.near_misses import MOST, rank
from stages.duplicates.params import TextMatch
from stages.duplicates.text_sketch import BANDS

CANDIDATES = pa.schema(
    [
        ("kind", pa.string()),
        ("left_part", pa.int32()),
        ("left_row", pa.int32()),
        ("right_part", pa.int32()),
        ("right_row", pa.int32()),
        ("weight", pa.int64()),
    ]
)

_Columns = dict[str, np.ndarray]


def picture_candidate(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """The CANDIDATES row of two SKETCH rows, to be decided by the files of their pictures."""
    sides = {
        f"{side}_{name}": row[name] for side, row in (("left", left), ("right", right)) for name in ("part", "row")
    }
    bytes_ = sum(image["size"] for row in (left, right) for image in row["images"])
    return {"kind": "picture", **sides, "weight": bytes_ // 8}


def text_candidates(bands: pa.Table, match: TextMatch) -> pa.Table:
    """BANDS rows of one bucket -> CANDIDATES: texts of one frame, and a few of those that are kept apart by theirs."""
    rows = _each_text_once({name: bands[name].to_numpy() for name in BANDS.names})
    starts = _begins(rows, "key", "frame")
    number = np.arange(len(starts))
    start = np.maximum.accumulate(np.where(starts, number, 0)) if len(starts) else number
    pairs = [(start + offset, number) for offset in (0, 1)] + [(number - 1, number)]
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    inside = (left < right) & (left >= start[right])
    left, right = left[inside], right[inside]
    small, large = (choose(rows["size"][left], rows["size"][right]) for choose in (np.minimum, np.maximum))
    near = small >= match.jaccard * large  # of sets of other sizes the Jaccard similarity is less
    apart = _apart(rows, starts)
    return _table(rows, np.append(left[near], apart[0]), np.append(right[near], apart[1]))


def _each_text_once(rows: _Columns) -> _Columns:
    """In the order of keys, frames and samples; of texts that are equal the first."""
    rows = _taken(rows, np.lexsort((rows["row"], rows["part"], rows["content"], rows["frame"], rows["key"])))
    rows = _taken(rows, np.flatnonzero(_begins(rows, "key", "frame", "content")))
    return _taken(rows, np.lexsort((rows["row"], rows["part"], rows["frame"], rows["key"])))


def _apart(rows: _Columns, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours among the first of each frame under one key, as many as near misses are kept of: they will be some."""
    heads = np.flatnonzero(starts)
    heads = heads[np.lexsort((rows["row"][heads], rows["part"][heads], rows["key"][heads]))]
    left, right = heads[:-1], heads[1:]
    same = rows["key"][left] == rows["key"][right]
    left, right = left[same], right[same]
    ranks = rank(rows["content"][left], rows["content"][right])
    chosen = np.argsort(ranks, kind="stable")
    ranks = ranks[chosen]
    (least,) = np.nonzero(np.append(True, ranks[1:] != ranks[:-1]) if len(ranks) else np.zeros(0, bool))
    kept = chosen[least[:MOST]]
    return left[kept], right[kept]


def _begins(rows: _Columns, *names: str) -> np.ndarray:
    """bool [n]: whether a row differs from the one before it."""
    found = np.ones(len(rows["key"]), bool)
    found[1:] = np.logical_or.reduce([rows[name][1:] != rows[name][:-1] for name in names])
    return found


def _taken(rows: _Columns, places: np.ndarray) -> _Columns:
    return {name: values[places] for name, values in rows.items()}


def _table(rows: _Columns, left: np.ndarray, right: np.ndarray) -> pa.Table:
    """Each pair once, in the order of its right side."""
    sides = [rows[name][side] for side in (left, right) for name in ("part", "row")]
    order = np.lexsort((sides[1], sides[0], sides[3], sides[2]))
    sides = [side[order] for side in sides]
    weight = (rows["size"][left].astype(np.int64) + rows["size"][right])[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = np.logical_or.reduce([side[1:] != side[:-1] for side in sides]) if len(order) else True
    columns = [side[fresh] for side in (*sides, weight)]
    kind = pa.array(["text"] * int(fresh.sum()), pa.string())
    arrays = [kind, *(pa.array(c, t) for c, t in zip(columns, CANDIDATES.types[1:], strict=True))]
    return pa.table(arrays, schema=CANDIDATES)
