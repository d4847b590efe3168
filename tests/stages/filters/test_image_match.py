"""The nearest, and what matches connect, against brute force; memory that doesn't grow with what matches."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.sample import SAMPLE
from stages.filters import image_match, near_hashes
from stages.filters.decontaminate import DECONTAMINATE, DecontaminateParams, load
from stages.filters.image_match import Match, Pictures, apart, clusters, distinct, matches, nearest
from stages.stage import Assets
from tests.stages.deduped import deduped


def pictures(seed: int, count: int) -> Pictures:
    """Hashes and luminances in families, so that some are near in both, some in one only, whatever the seed."""
    families, rng = np.random.default_rng(0), np.random.default_rng(seed)
    base = families.integers(0, 2**63, 4, dtype=np.uint64)
    grey = np.kron(families.integers(0, 256, (3, 8, 8)), np.ones((4, 4), np.int64)).reshape(3, 1024)
    detail = families.integers(-999, 999, (3, 484))
    flips = rng.integers(0, 2**63, (4, count), dtype=np.uint64)
    few = flips[0] & flips[1] & flips[2] & flips[3]  # about four bits of each
    kind = rng.integers(0, 3, count)
    shifted = grey[kind] + rng.integers(-12, 13, (count, 1))
    touched = detail[kind] * (1 - (rng.random((count, 484)) < 0.01) * rng.integers(0, 2, (count, 1)))
    return Pictures(
        base[rng.integers(0, 4, count)] ^ few,
        np.clip(shifted, 0, 255).astype(np.uint8),
        touched.astype("<i2"),
        rng.integers(0, 2, count).astype(np.uint8) * np.uint8(200),
        rng.integers(1, 3, (count, 2)).astype(np.int32),
    )


def brute(left: Pictures, right: Pictures, match: Match) -> dict[tuple[int, int], int]:
    """(i, j) -> distance of all pairs that match."""
    return {
        (i, j): bits
        for i in range(len(left.phash))
        for j in range(len(right.phash))
        if (bits := int(apart(left.take(slice(i, i + 1)), right.take(slice(j, j + 1)))[0])) <= match.radius
        and matches([left.take(slice(i, i + 1))], [right.take(slice(j, j + 1))], match)[0]
    }


SEED, COUNT = st.integers(0, 1000), st.integers(0, 14)
MATCH = st.builds(Match, st.integers(0, 20))


@pytest.fixture(params=[(1, 1, 1), (20, 3, 2), (1 << 21, 1 << 13, 1 << 10)], ids=str)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is compared at a time, the same is found."""
    monkeypatch.setattr(near_hashes, "_LOT", request.param[0])
    monkeypatch.setattr(image_match, "_PAIRS", request.param[1])
    monkeypatch.setattr(image_match, "_FITTED", request.param[2])


@given(SEED, COUNT, COUNT, MATCH)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_nearest_equals_brute_force(blocks: None, seed: int, n: int, m: int, match: Match) -> None:
    left, right = pictures(seed, n), pictures(seed + 1, m)
    pairs = brute(left, right, match)
    best, bits = nearest(left, right, match)
    for i in range(n):
        mine = [(bits, j) for (row, j), bits in pairs.items() if row == i]
        assert (best[i] == -1 and not mine) or (bits[i], best[i]) == min(mine)


@given(SEED, COUNT, MATCH, st.integers(1, 3), st.lists(st.integers(0, 13), max_size=6))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_clusters_are_what_pairs_connect(
    blocks: None, seed: int, n: int, match: Match, many: int, again: list[int]
) -> None:
    """In every position at once; rows that look exactly the same among them."""
    rows = np.array([*range(n), *(row for row in again if row < n)], np.int64)
    positions = [pictures(seed + k, n).take(rows) for k in range(many)]
    found = [set(brute(each, each, match)) for each in positions]
    label = list(range(len(rows)))
    for _ in label:
        for i, j in set.intersection(*found):
            label[i] = label[j] = min(label[i], label[j])
    assert clusters(positions, match).tolist() == label


def test_the_families_hold_pairs_that_match_and_pairs_that_miss_in_one_way() -> None:
    """Or the comparison with brute force would be one of nothing with nothing."""
    left, right = pictures(1, 20), pictures(2, 20)
    wide, near, alike_only = (len(brute(left, right, match)) for match in (Match(20), Match(10), Match(64)))
    assert 0 < near < wide < alike_only < 20 * 20


def test_rows_that_look_the_same_are_one_and_the_first_stands_for_them() -> None:
    one, other = pictures(3, 6), pictures(4, 6)
    rows = np.array([2, 2, 0, 2, 5, 0])
    firsts, which = distinct([one.take(rows), other.take(rows)])
    assert (firsts.tolist(), which.tolist()) == ([0, 2, 4], [0, 0, 1, 0, 2, 1])
    mixed = distinct([one.take(rows), other])  # the same in one position only
    assert mixed[0].tolist() == list(range(6))


BLANK = {"detail": bytes(2 * 22 * 22), "plain": 255}


def white(count: int, flips: int) -> list[dict[str, Any]]:
    """Encodings of one picture: other bytes, the same hash and luminance; the last `flips` a little different."""
    infos = [
        {"sha256": f"{n}", "width": 64, "height": 64, "phash": 7, "grey": bytes([255]) * 1024, **BLANK}
        for n in range(count)
    ]
    for n in range(count - flips, count):
        infos[n]["grey"] = bytes([255 - n % 9, *[254] * (1 + n % 50), *[255] * (1022 - n % 50)])
    return infos


@pytest.mark.parametrize("flips", [0, 600])
def test_a_thousand_encodings_of_one_picture_take_little_memory(flips: int) -> None:
    count = 4000 if not flips else 1000
    blank = {"role": "user", "content": [{"type": "image", "text": None}]}
    rows = [
        {"sample_id": f"{n:05}", "messages": [blank], "image_info": [info]}
        for n, info in enumerate(white(count, flips))
    ]
    table = pa.Table.from_pylist(rows, SAMPLE)
    tracemalloc.start()
    verdict = deduped(table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    named = verdict["kept_id"].drop_null().to_pylist()
    assert len(named) == count - 1 and len(set(named)) == 1 and set(verdict["distance"].to_pylist()) == {None, 0}
    assert peak < 250 << 20, f"{peak >> 20} MiB"


def test_a_benchmark_of_white_pictures_takes_little_memory() -> None:
    rows = [{"sample_id": f"{n:05}", "messages": [], "image_info": [info]} for n, info in enumerate(white(2000, 0))]
    table = pa.Table.from_pylist(rows, SAMPLE)
    tracemalloc.start()
    index = load(DecontaminateParams(), Assets(benchmarks=table))
    others = pa.Table.from_pylist(
        [{**row, "image_info": [{**row["image_info"][0], "sha256": "x"}]} for row in rows], SAMPLE
    )
    verdict = DECONTAMINATE.verdicts(others, DecontaminateParams(), index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(verdict["benchmark_id"].to_pylist()) == {"00000"}
    assert peak < 150 << 20, f"{peak >> 20} MiB"


@pytest.mark.parametrize("options", [{"radius": 65}, {"radius": -1}, {"leeway": 101}, {"leeway": -1}])
def test_limits_outside_their_scale_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Match(**options)
