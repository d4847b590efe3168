"""Pairs -> groups -> who stays: of each group the best sample that every other filter keeps.

Samples that are joined by pairs, however indirectly, are one group. One that another filter drops neither stays nor is
counted as a duplicate: nothing is ever dropped in favour of it. All the others but the best are dropped, and name it.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.verdict import verdict_schema
from stages.duplicates.params import DedupeParams, Key

REASONS = {
    "duplicate": "a better sample that is kept has the same pictures, byte by byte, and for unit sample the same text",
    "near_duplicate": "the same, its pictures re-encoded or resized; or, without pictures, nearly the same text",
}

EVIDENCE = pa.schema([("kept_id", pa.string()), ("distance", pa.int32()), ("jaccard", pa.float64())])
"""Of samples with pictures the distance of their hashes, the largest; of texts the Jaccard similarity of the pair that
joins the two, or the least of the pairs that do."""

VERDICT = verdict_schema(EVIDENCE)

CHOICE = pa.schema([("part", pa.int32()), ("row", pa.int32()), *VERDICT])
"""The verdict of a sample that is dropped, and where it is."""

Place = tuple[int, int]
Member = dict[str, Any]

_BEST: dict[Key, Callable[[Member], float]] = {
    "source": lambda member: member["source"],
    "resolution": lambda member: -member["pixels"],
    "rating": lambda member: -(member["rating"] if member["rating"] is not None else -np.inf),
}


def chosen(pairs: pa.Table, members: pa.Table, gone: Callable[[int], np.ndarray], params: DedupeParams) -> pa.Table:
    """CHOICE rows in the order of parts. `gone(part)`: bool [rows], whether another filter drops a sample of it."""
    known: dict[Place, Member] = {(member["part"], member["row"]): member for member in members.to_pylist()}
    order = sorted(known)
    dropped = {part: gone(part) for part in dict.fromkeys(part for part, _ in order)}
    rows, links = [], _links(pairs)
    for group in _groups(pairs, order):
        alive = [known[place] for place in group if not dropped[place[0]][place[1]]]
        if alive:
            best = min(alive, key=lambda member: _rank(member, params.prefer))
            similar = _similarities(best, links)
            rows += [_verdict(member, best, similar.get(_place(member))) for member in alive if member is not best]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (row["part"], row["row"])), CHOICE)


def verdicts(sample_ids: pa.ChunkedArray, choice: pa.Table) -> pa.Table:
    """The verdicts of a part; `choice`: its rows of CHOICE. Raises ValueError if they speak of other samples."""
    ids = sample_ids.to_pylist()
    found: list[dict[str, Any]] = [{"sample_id": name} for name in ids]
    for row in choice.to_pylist():
        if ids[row["row"]] != row["sample_id"]:
            raise ValueError(f"row {row['row']} is {ids[row['row']]}, what was compared is {row['sample_id']}")
        found[row["row"]] = {name: row[name] for name in VERDICT.names}
    return pa.Table.from_pylist(found, VERDICT)


def _groups(pairs: pa.Table, order: Sequence[Place]) -> list[list[Place]]:
    """Connected places, each group in order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number = {place: at for at, place in enumerate(order)}
    columns = [[pairs[f"{side}_{name}"].to_pylist() for name in ("part", "row")] for side in ("left", "right")]
    ends = [[number[place] for place in zip(*side, strict=True)] for side in columns]
    graph = coo_array((np.ones(len(ends[0]), np.int8), (ends[0], ends[1])), shape=(len(order), len(order)))
    labels = connected_components(graph, directed=False)[1] if order else []
    groups: dict[int, list[Place]] = defaultdict(list)
    for place, label in zip(order, labels, strict=True):
        groups[int(label)].append(place)
    return list(groups.values())


def _place(member: Member) -> Place:
    return member["part"], member["row"]


def _links(pairs: pa.Table) -> dict[Place, list[tuple[float, Place]]]:
    """Of every text in a pair, those that it is near, and how near."""
    links: dict[Place, list[tuple[float, Place]]] = defaultdict(list)
    for pair in pairs.filter(pc.is_valid(pairs["jaccard"])).to_pylist():
        left, right = ((pair[f"{side}_part"], pair[f"{side}_row"]) for side in ("left", "right"))
        links[left].append((pair["jaccard"], right))
        links[right].append((pair["jaccard"], left))
    return links


def _similarities(best: Member, links: Mapping[Place, Sequence[tuple[float, Place]]]) -> dict[Place, float]:
    """Of every text that pairs join to the best: the least similarity on the way, on the way where that is largest."""
    found: dict[Place, float] = {}
    waiting = [(-1.0, _place(best))]
    while waiting:
        least, place = heapq.heappop(waiting)
        if place not in found:
            found[place] = -least
            for similarity, other in links.get(place, ()):
                heapq.heappush(waiting, (max(least, -similarity), other))
    return found


def _verdict(member: Member, best: Member, jaccard: float | None) -> dict[str, Any]:
    place = {"part": member["part"], "row": member["row"], "sample_id": member["sample_id"]}
    if not member["phashes"]:
        reason = "duplicate" if member["content"] == best["content"] else "near_duplicate"
        similarity = 1.0 if reason == "duplicate" else jaccard
        return {
            **place,
            "reason": reason,
            "kept_id": best["sample_id"],
            "distance": None,
            "jaccard": similarity and round(similarity, 4),
        }
    reason = "duplicate" if member["pictures"] == best["pictures"] else "near_duplicate"
    bits = [(left ^ right).bit_count() for left, right in zip(member["phashes"], best["phashes"], strict=True)]
    return {**place, "reason": reason, "kept_id": best["sample_id"], "distance": max(bits), "jaccard": None}


def _rank(member: Member, prefer: Sequence[Key]) -> tuple[Any, ...]:
    return (*(_BEST[key](member) for key in prefer), member["content"], member["sample_id"])
