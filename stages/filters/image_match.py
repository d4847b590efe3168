"""Which images look alike: candidates by Hamming distance of 64-bit pHashes, proven on 32 x 32 luminance.

A pHash alone merges charts that differ only in their numbers (of 200 bar charts from one template, a third of all pairs
lie within distance 4), so a candidate counts only if no pixel of the two 32 x 32 luminances differs by more than
`tolerance` of 255. Re-encoding and resizing move a pixel by a few levels; a bar of another height moves some by dozens.
Pairs are found by brute force (n x m popcounts), in blocks of a fixed size: pictures that look exactly the same are one
picture (`distinct`), and nobody holds all pairs. That is meant for groups of up to some 10,000 pictures that differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_CELLS = 1 << 22  # hashes that are compared at a time: 32 MiB
_PAIRS = 1 << 13  # luminances that are compared at a time: 8 MiB on each side


@dataclass(frozen=True)
class Match:
    """When two images count as the same picture: pHash distance in bits (0-64), luminance difference (0-255)."""

    radius: int = 10
    tolerance: int = 18

    def __post_init__(self) -> None:
        if not 0 <= self.radius <= 64 or not 0 <= self.tolerance <= 255:
            raise ValueError(
                f"radius must lie in 0..64 and tolerance in 0..255, got {self.radius} and {self.tolerance}"
            )


class Pictures(NamedTuple):
    """uint64 [n] perceptual hashes and uint8 [n, 1024] luminances of n images."""

    phash: np.ndarray
    grey: np.ndarray

    @classmethod
    def of(cls, infos: list[dict[str, object]]) -> Pictures:
        phash = np.array([info["phash"] for info in infos], dtype=np.uint64)
        grey = np.frombuffer(b"".join(info["grey"] for info in infos), dtype=np.uint8)  # type: ignore[misc]
        return cls(phash, grey.reshape(len(infos), -1) if infos else np.zeros((0, 1024), np.uint8))

    def take(self, rows: np.ndarray | slice) -> Pictures:
        return Pictures(self.phash[rows], self.grey[rows])


def distinct(positions: Sequence[Pictures]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that look exactly the same in every position: (the first row of each look, the look of each row)."""
    looks: dict[tuple[bytes, ...], int] = {}
    firsts: list[int] = []
    which = np.zeros(len(positions[0].phash), np.int64)
    for row in range(len(which)):
        key = tuple(part[row].tobytes() for pictures in positions for part in pictures)
        which[row] = looks.setdefault(key, len(firsts))
        if which[row] == len(firsts):
            firsts.append(row)
    return np.array(firsts, np.int64), which


def clusters(positions: Sequence[Pictures], match: Match) -> np.ndarray:
    """int [n]: of each row the first row that it is connected with by matches, each in every position."""
    firsts, which = distinct(positions)
    looks = [pictures.take(firsts) for pictures in positions]
    size = len(firsts)
    labels = np.arange(size)
    for i, j in _pairs(looks, looks, match):
        labels = _connected(labels, i, j)
    first = np.full(size, size)
    np.minimum.at(first, labels, np.arange(size))
    return np.asarray(firsts[first[labels]][which])


def nearest(left: Pictures, right: Pictures, match: Match) -> tuple[np.ndarray, np.ndarray]:
    """Of each left picture the right one that matches it best, the first of equals (-1: none), and the distance."""
    best, bits = np.full(len(left.phash), -1, np.int64), np.full(len(left.phash), 65, np.uint8)
    for i, j in _pairs([left], [right], match):
        distance = apart(left.take(i), right.take(j))
        order = np.lexsort((j, distance, i))
        i, j, distance = i[order], j[order], distance[order]
        i, at = np.unique(i, return_index=True)
        closer = distance[at] < bits[i]
        best[i[closer]], bits[i[closer]] = j[at][closer], distance[at][closer]
    return best, bits


def apart(left: Pictures, right: Pictures) -> np.ndarray:
    """uint8 [n]: the Hamming distances of n pictures to n others."""
    return np.asarray(np.bitwise_count(left.phash ^ right.phash))


def matches(left: Sequence[Pictures], right: Sequence[Pictures], match: Match) -> np.ndarray:
    """bool [n]: whether row n of the left matches row n of the right in every position."""
    found = np.ones(len(left[0].phash), bool)
    for a, b in zip(left, right, strict=True):
        for start in range(0, len(found), _PAIRS):
            some = slice(start, start + _PAIRS)
            near = apart(a.take(some), b.take(some)) <= match.radius
            found[some] &= near & (_largest_difference(a.grey[some], b.grey[some]) <= match.tolerance)
    return found


def _pairs(
    left: Sequence[Pictures], right: Sequence[Pictures], match: Match
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(i, j) of all pairs left[i] ~ right[j], a few at a time; i ascends from one lot to the next, then j."""
    rows = max(1, _CELLS // max(1, len(right[0].phash)))
    for start in range(0, len(left[0].phash), rows):
        near = np.bitwise_count(left[0].phash[start : start + rows, None] ^ right[0].phash[None, :]) <= match.radius
        for some in _few(near):
            i, j = start + some[0], some[1]
            same = matches([p.take(i) for p in left], [p.take(j) for p in right], match)
            yield i[same], j[same]


def _few(near: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Where `near` holds, _PAIRS places at a time."""
    flat = np.flatnonzero(near)
    for start in range(0, len(flat), _PAIRS):
        yield np.divmod(flat[start : start + _PAIRS], near.shape[1])


def _largest_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # |a - b| without leaving uint8: max - min
    return np.asarray((np.maximum(a, b) - np.minimum(a, b)).max(axis=1, initial=0))


def _connected(labels: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The labels of rows once the pairs (i, j) are connected too."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    new = labels[i] != labels[j]
    if not new.any():
        return labels
    edges = (np.ones(np.count_nonzero(new), np.int8), (labels[i[new]], labels[j[new]]))
    graph = coo_array(edges, shape=(len(labels), len(labels)))
    return np.asarray(connected_components(graph, directed=False)[1][labels])
