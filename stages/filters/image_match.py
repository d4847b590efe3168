"""Which images look alike: candidates by Hamming distance of 64-bit pHashes, proven on 32 x 32 luminance.

A pHash alone merges charts that differ only in their numbers (of 200 bar charts from one template, a third of all pairs
lie within distance 4), so a candidate counts only if no pixel of the two 32 x 32 luminances differs by more than
`tolerance` of 255. Re-encoding and resizing move a pixel by a few levels; a bar of another height moves some by dozens.
Pairs are found by brute force in blocks (n x m popcounts), which is meant for groups of up to some 10,000 images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_BLOCK = 2048


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


def alike(left: Pictures, right: Pictures, match: Match) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(i, j, distance) of all pairs left[i] ~ right[j], in order of i, then j. distance: uint8 Hamming."""
    found = [_block(left, right, start, match) for start in range(0, len(left.phash), _BLOCK)]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


def _block(left: Pictures, right: Pictures, start: int, match: Match) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    distance = np.bitwise_count(left.phash[start : start + _BLOCK, None] ^ right.phash[None, :])
    i, j = np.nonzero(distance <= match.radius)
    same = _largest_difference(left.grey[start + i], right.grey[j]) <= match.tolerance
    return start + i[same], j[same], distance[i[same], j[same]]


def _largest_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # |a - b| without leaving uint8: max - min
    return np.asarray((np.maximum(a, b) - np.minimum(a, b)).max(axis=1))


def components(size: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """int [size]: for each item the number of its connected component under the pairs (i, j)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(i), dtype=np.int8), (i, j)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1])
