"""No pair of hashes within the radius is missed, none is named twice, in whatever lots."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.filters import near_hashes
from stages.filters.crop_hashes import inner_hashes
from stages.filters.image_match import Pictures, apart, near
from stages.filters.near_hashes import crossing
from stages.images.rules import inspect
from tests.stages.pictures import encoded, photo


def hashes(seed: int, count: int) -> np.ndarray:
    """Some of one family, within a few bits in one place or all over; some equal."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(0).integers(0, 2**64, 3, dtype=np.uint64)[rng.integers(0, 3, count)]
    flips = np.zeros(count, np.uint64)
    for _ in range(int(rng.integers(0, 16))):
        place = rng.integers(0, int(rng.choice([16, 64])), count, dtype=np.uint64)
        flips ^= np.uint64(1) << place
    return np.asarray(base ^ flips)


def brute(left: np.ndarray, right: np.ndarray, radius: int) -> list[tuple[int, int]]:
    return [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if (int(a) ^ int(b)).bit_count() <= radius]


@pytest.fixture(params=[(1, 0), (7, 0), (1 << 21, 0), (1 << 21, 1 << 19)], ids=str)
def lots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_hashes, "_LOT", request.param[0])
    monkeypatch.setattr(near_hashes, "_FEW", request.param[1])


@given(st.integers(0, 10_000), st.integers(0, 12), st.integers(0, 12), st.integers(0, 16))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pairs_are_those_of_brute_force_each_once(lots: None, seed: int, n: int, m: int, radius: int) -> None:
    left, right = hashes(seed, n), hashes(seed + 1, m)
    found = [pair for i, j in crossing(left, right, radius) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    assert sorted(found) == brute(left, right, radius)


@pytest.mark.parametrize("radius", [3, 10])
def test_bits_spread_over_all_bands_are_found_and_one_more_is_not(lots: None, radius: int) -> None:
    for extra, expected in ((0, 1), (1, 0)):
        bits = sum(1 << (16 * (n % 4) + n // 4) for n in range(radius + extra))
        one, other = np.array([0], np.uint64), np.array([bits], np.uint64)
        assert sum(len(i) for i, _ in crossing(one, other, radius)) == expected


def test_memory_is_that_of_a_lot_and_not_of_the_pairs() -> None:
    same = np.full(6000, 7, np.uint64)
    tracemalloc.start()
    found = sum(len(i) for i, _ in crossing(same, same, 3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 6000 * 6000
    assert peak < 300 << 20, f"{peak >> 20} MiB"


@pytest.mark.parametrize("seed", range(6))
def test_the_middles_hash_is_near_that_of_a_crop(seed: int) -> None:
    whole = photo(seed, 480, 360)
    infos = [inspect(encoded(image), 10**8) for image in (whole, whole.crop((12, 9, 468, 351)), photo(seed + 50))]
    inner = int(inner_hashes(np.frombuffer(infos[0].grey, np.uint8).reshape(1, 1024))[0])
    bits = [(inner ^ info.phash).bit_count() for info in infos]
    assert bits[1] <= 4 and bits[1] < bits[0] and bits[2] > 12


@given(st.integers(0, 1000), st.integers(0, 9), st.integers(0, 30))
@settings(max_examples=30, deadline=None)
def test_near_names_every_pair_once_by_whole_or_middle(seed: int, count: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (2 * count, 1024), dtype=np.uint8)
    phash = np.where(
        rng.integers(0, 2, 2 * count), inner_hashes(grey[rng.permutation(2 * count)]), hashes(seed, 2 * count)
    )
    blank = np.zeros((2 * count, 484), "<i2"), np.zeros(2 * count, np.uint8), np.ones((2 * count, 2), np.int32)
    left, right = (Pictures(phash, grey, *blank).take(slice(k, None, 2)) for k in (0, 1))
    found = [pair for i, j in near(left, right, radius) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    i, j = np.divmod(np.arange(count * count), max(count, 1))
    some = apart(left.take(i), right.take(j)) <= radius
    assert sorted(found) == [*zip(i[some].tolist(), j[some].tolist(), strict=True)]
