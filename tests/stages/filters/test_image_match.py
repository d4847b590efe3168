"""Pairs, distances and components against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.filters import image_match
from stages.filters.image_match import Match, Pictures, alike, components


def pictures(seed: int, count: int) -> Pictures:
    """Hashes and luminances in families, so that some are near in both, some in one only, whatever the seed."""
    families, rng = np.random.default_rng(0), np.random.default_rng(seed)
    base = families.integers(0, 2**63, 4, dtype=np.uint64)
    grey = families.integers(0, 256, (3, 1024))
    flips = rng.integers(0, 2**63, (4, count), dtype=np.uint64)
    few = flips[0] & flips[1] & flips[2] & flips[3]  # about four bits of each
    shifted = grey[rng.integers(0, 3, count)] + rng.integers(-12, 13, (count, 1))
    return Pictures(base[rng.integers(0, 4, count)] ^ few, np.clip(shifted, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("block", [1, 7, 100])
@given(st.integers(0, 1000), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 30))
@settings(max_examples=30)
def test_pairs_equal_brute_force(block: int, seed: int, n: int, m: int, radius: int, tolerance: int) -> None:
    left, right = pictures(seed, n), pictures(seed + 1, m)
    expected = [
        (i, j, bits)
        for i in range(n)
        for j in range(m)
        if (bits := (int(left.phash[i]) ^ int(right.phash[j])).bit_count()) <= radius
        and max(abs(int(a) - int(b)) for a, b in zip(left.grey[i], right.grey[j], strict=True)) <= tolerance
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_match, "_BLOCK", block)
        found = alike(left, right, Match(radius, tolerance))
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


def test_the_families_hold_pairs_that_match_and_pairs_that_miss_in_one_way() -> None:
    """Or the comparison with brute force would be one of nothing with nothing."""
    left, right = pictures(1, 20), pictures(2, 20)
    wide, near, alike_only = (
        len(alike(left, right, match)[0]) for match in (Match(20, 255), Match(20, 15), Match(64, 15))
    )
    assert 0 < near < wide and near < alike_only


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29))))
def test_components_are_what_pairs_connect(size: int, pairs: list[tuple[int, int]]) -> None:
    pairs = [(a % size, b % size) for a, b in pairs]
    label = list(range(size))
    for _ in range(size):
        for a, b in pairs:
            label[a] = label[b] = min(label[a], label[b])
    i, j = np.array(pairs, dtype=int).reshape(-1, 2).T
    found = components(size, i, j)
    assert all((found[a] == found[b]) == (label[a] == label[b]) for a in range(size) for b in range(size))


@pytest.mark.parametrize("options", [{"radius": 65}, {"radius": -1}, {"tolerance": 256}, {"tolerance": -1}])
def test_limits_outside_their_scale_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Match(**options)
