"""Pairs -> groups -> who stays: of each group the best sample that every other filter keeps.

Samples that are joined by pairs, however indirectly, are one group. One that another filter drops neither stays nor is
counted as a duplicate: nothing is ever dropped in favour of it. All the others but the best are dropped, and name it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.verdict import verdict_schema
from stages.duplicates.pairs import PAIRS
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

LINKS = pa.schema([PAIRS.field(name) for name in ("left_part", "left_row", "right_part", "right_row", "jaccard")])
"""What a choice reads of PAIRS."""

Place = tuple[int, int]
Member = dict[str, Any]
Links = dict[Place, list[tuple[float, Place]]]

_CHUNK = 1 << 16

_BEST: dict[Key, Callable[[Member], float]] = {
    "source": lambda member: member["source"],
    "resolution": lambda member: -member["pixels"],
    "rating": lambda member: -(member["rating"] if member["rating"] is not None else -np.inf),
}


def chosen(pairs: pa.Table, members: pa.Table, gone: Callable[[int], np.ndarray], params: DedupeParams) -> pa.Table:
    """CHOICE rows in the order of parts. `pairs`: LINKS of all; `gone(part)`: bool [rows of a part], whether another
    filter drops a sample of it."""
    places, first = np.unique(_number(members, ""), return_index=True)
    labels, left = _labels(pairs, places)
    order, edges = np.argsort(labels, kind="stable"), np.argsort(labels[left], kind="stable")
    ordered, theirs = labels[order], labels[left][edges]
    dropped = {part: gone(part) for part in np.unique(places >> 32).tolist()}
    tables = [CHOICE.empty_table()]
    for start, end in _chunks(ordered):
        some = members.take(pa.array(first[order[start:end]])).to_pylist()
        near = slice(*np.searchsorted(theirs, [ordered[start], ordered[end - 1] + 1]).tolist())
        links = _links(pairs.take(pa.array(edges[near])))
        groups = itertools.groupby(zip(ordered[start:end].tolist(), some, strict=True), key=lambda one: one[0])
        rows = [row for _, group in groups for row in _judged([one for _, one in group], links, dropped, params)]
        tables.append(pa.Table.from_pylist(rows, CHOICE))
    return pa.concat_tables(tables).sort_by([("part", "ascending"), ("row", "ascending")])


def _judged(
    group: Sequence[Member], links: Links, dropped: Mapping[int, np.ndarray], params: DedupeParams
) -> Iterator[dict[str, Any]]:
    """The verdicts of one group's samples that are dropped."""
    alive = [member for member in group if not dropped[member["part"]][member["row"]]]
    if len(alive) > 1:
        best = min(alive, key=lambda member: _rank(member, params.prefer))
        similar = _similarities(best, links)
        yield from (_verdict(member, best, similar.get(_place(member))) for member in alive if member is not best)


def verdicts(sample_ids: pa.ChunkedArray, choice: pa.Table) -> pa.Table:
    """The verdicts of a part; `choice`: its rows of CHOICE. Raises ValueError if they speak of other samples."""
    ids = sample_ids.to_pylist()
    found: list[dict[str, Any]] = [{"sample_id": name} for name in ids]
    for row in choice.to_pylist():
        if ids[row["row"]] != row["sample_id"]:
            raise ValueError(f"row {row['row']} is {ids[row['row']]}, what was compared is {row['sample_id']}")
        found[row["row"]] = {name: row[name] for name in VERDICT.names}
    return pa.Table.from_pylist(found, VERDICT)


def _number(table: pa.Table, side: str) -> np.ndarray:
    """int64: the places of samples."""
    part, row = (table[f"{side}{name}"].to_numpy().astype(np.int64) for name in ("part", "row"))
    return np.asarray(part << 32 | row)


def _labels(pairs: pa.Table, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The group of every place, groups that pairs connect; and which place is the left one of every pair."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = (np.searchsorted(places, _number(pairs, f"{side}_")) for side in ("left", "right"))
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(len(places), len(places)))
    labels = connected_components(graph, directed=False)[1] if len(places) else np.zeros(0, np.int32)
    return np.asarray(labels), left


def _chunks(ordered: np.ndarray) -> Iterator[tuple[int, int]]:
    """Whole groups, about _CHUNK samples at a time: only so many are held as anything but columns."""
    (ends,) = np.nonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else ([],)
    start = 0
    for end in (np.asarray(ends) + 1).tolist():
        if end - start >= _CHUNK or end == len(ordered):
            yield start, end
            start = end


def _place(member: Member) -> Place:
    return member["part"], member["row"]


def _links(pairs: pa.Table) -> Links:
    """Of every text in a pair, those that it is near, and how near."""
    links: Links = defaultdict(list)
    for pair in pairs.filter(pc.is_valid(pairs["jaccard"])).to_pylist():
        left, right = ((pair[f"{side}_part"], pair[f"{side}_row"]) for side in ("left", "right"))
        links[left].append((pair["jaccard"], right))
        links[right].append((pair["jaccard"], left))
    return links


def _similarities(best: Member, links: Links) -> dict[Place, float]:
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
