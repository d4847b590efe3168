"""What is compared, and what matches connect, against brute force; memory that doesn't grow with what matches."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.sample import SAMPLE
from stages.duplicates.params import DedupeParams
from stages.duplicates.sight import Seen, seen
from stages.filters import image_match, near_hashes
from stages.filters.decontaminate import DecontaminateParams
from stages.filters.image_match import (
    LOOK,
    OTHER,
    SAME,
    Fewest,
    Lot,
    Match,
    Pictures,
    apart,
    compared,
    distinct,
    judged,
)
from tests.stages.decontaminated import decontaminated, indexed
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
    touched = detail[kind] * (1 - (rng.random((count, 484)) < 0.01) * (rng.random((count, 1)) < 0.2))
    return Pictures(
        base[rng.integers(0, 4, count)] ^ few,
        np.clip(shifted, 0, 255).astype(np.uint8),
        touched.astype("<i2"),
        np.where(rng.random(count) < 0.7, 200, 0).astype(np.uint8),
        rng.integers(1, 3, (count, 2)).astype(np.int32),
    )


def brute(left: Pictures, right: Pictures, match: Match) -> dict[tuple[int, int], tuple[int, int]]:
    """(i, j) -> verdict and distance of all pairs that are near."""
    return {
        (i, j): (int(judged(a, b, match)[0][0]), bits)
        for i, a in enumerate(each(left))
        for j, b in enumerate(each(right))
        if (bits := int(apart(a, b)[0])) <= match.radius
    }


def each(all_of: Pictures) -> list[Pictures]:
    return [all_of.take(slice(row, row + 1)) for row in range(len(all_of.phash))]


def rows_of(positions: list[Pictures]) -> list[dict[str, Any]]:
    """SKETCH rows, as far as they are compared."""
    return [
        {
            "content": row.to_bytes(16, "big"),
            "part": 0,
            "row": row,
            "sample_id": f"{row}",
            "images": [info(pictures, row) for pictures in positions],
        }
        for row in range(len(positions[0].phash))
    ]


def info(pictures: Pictures, row: int) -> dict[str, Any]:
    width, height = pictures.size[row].tolist()
    pixels = {"grey": pictures.grey[row].tobytes(), "detail": pictures.detail[row].tobytes()}
    rest = {"plain": int(pictures.plain[row]), "width": width, "height": height}
    return {"phash": int(pictures.phash[row]), **pixels, **rest}


SEED, COUNT = st.integers(0, 1000), st.integers(0, 14)
MATCH = st.builds(Match, st.integers(0, 20), mark=st.sampled_from([0.0, 0.03]))


@pytest.fixture(params=[(1, 1, 1), (20, 3, 2), (1 << 21, 1 << 13, 1 << 10)], ids=str)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is compared at a time, the same is found."""
    monkeypatch.setattr(near_hashes, "_FEW", 0)
    monkeypatch.setattr(near_hashes, "_LOT", request.param[0])
    monkeypatch.setattr(image_match, "_PAIRS", request.param[1])
    monkeypatch.setattr(image_match, "_FITTED", request.param[2])


@given(SEED, COUNT, COUNT, MATCH)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_compared_equals_brute_force(blocks: None, seed: int, n: int, m: int, match: Match) -> None:
    left, right = pictures(seed, n), pictures(seed + 1, m)
    lots = [list(zip(*(column.tolist() for column in lot), strict=True)) for lot in compared([left], [right], match)]
    found = [((i, j), (verdict, bits)) for lot in lots for i, j, verdict, bits, _ in lot]
    assert dict(found) == brute(left, right, match) and len(dict(found)) == len(found)


@given(SEED, COUNT, MATCH, st.integers(1, 3), st.lists(st.integers(0, 13), max_size=6))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_the_same_is_connected_and_what_is_open_is_named(
    blocks: None, seed: int, n: int, match: Match, many: int, again: list[int]
) -> None:
    """In every position at once, the worst deciding; rows that look exactly the same among them."""
    rows = np.array([*range(n), *(row for row in again if row < n)], np.int64)
    if not len(rows):
        return
    positions = [pictures(seed + k, n).take(rows) for k in range(many)]
    every = [brute(one, one, match) for one in positions]
    near = set.intersection(*map(set, every))
    verdicts = {pair: min(found[pair][0] for found in every) for pair in near if pair[0] < pair[1]}
    by_sight = seen(rows_of(positions), match)
    label = connected(len(rows), [pair for pair, verdict in verdicts.items() if verdict == SAME])
    edges = [(left, right) for left, right, _ in by_sight.same]
    assert connected(len(rows), edges) == label and len(edges) == len(rows) - len(set(label))
    open_ = {pair for pair, verdict in verdicts.items() if verdict == LOOK and label[pair[0]] != label[pair[1]]}
    assert set(by_sight.open) <= open_
    assert connected(len(rows), by_sight.open) == connected(len(rows), open_) or len(rows) > 9  # eight at the most
    assert all(verdicts[a, b] == OTHER for a, b in missed(by_sight, rows_of(positions)))


def connected(size: int, pairs: Any) -> list[int]:
    """Of each row the first that it is connected with."""
    label = list(range(size))
    for _ in label:
        for i, j in pairs:
            label[i] = label[j] = min(label[i], label[j])
    return label


def missed(found: Seen, rows: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(row["left_row"], row["right_row"]) for row in found.misses.told(rows).to_pylist()]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 3)), max_size=40), st.integers(1, 9))
@settings(max_examples=50)
def test_the_fewest_are_the_nearest_whatever_comes_first(pairs: list[tuple[int, int, int]], lots: int) -> None:
    unique = list({(i, j): bits for i, j, bits in pairs}.items())
    few = Fewest(3)
    for lot in (unique[start::lots] for start in range(lots)):
        i, j, bits = np.array([(*pair, bits) for pair, bits in lot], np.int64).reshape(-1, 3).T
        few.add(Lot(i, j, np.full(len(i), LOOK), bits, bits.astype(np.float32)))
    kept = few.pairs()
    wanted = [(i, j) for j in range(6) for _, i in sorted((bits, i) for (i, right), bits in unique if right == j)[:3]]
    assert list(zip(kept.left.tolist(), kept.right.tolist(), strict=True)) == wanted


def test_the_families_hold_pairs_of_every_verdict() -> None:
    """Or the comparison with brute force would be one of nothing with nothing."""
    left, right = pictures(1, 20), pictures(2, 20)
    found = [verdict for verdict, _ in brute(left, right, Match(20, mark=0.03)).values()]
    assert all(found.count(verdict) > 5 for verdict in (OTHER, LOOK, SAME))
    assert len(brute(left, right, Match(10))) < len(found)


def test_rows_that_look_the_same_are_one_and_the_first_stands_for_them() -> None:
    one, other = pictures(3, 6), pictures(4, 6)
    rows = np.array([2, 2, 0, 2, 5, 0])
    firsts, which = distinct([one.take(rows), other.take(rows)])
    assert (firsts.tolist(), which.tolist()) == ([0, 2, 4], [0, 0, 1, 0, 2, 1])
    mixed = distinct([one.take(rows), other])  # the same in one position only
    assert mixed[0].tolist() == list(range(6))


BLANK = {"detail": bytes(2 * 22 * 22), "size": 99, "width": 64, "height": 64}


def white(count: int, flips: int, plain: int = 0) -> list[dict[str, Any]]:
    """Encodings of one picture: other bytes, the same hash and luminance; the last `flips` a little different."""
    infos = [{"sha256": f"{n}", "phash": 7, "grey": bytes([255]) * 1024, "plain": plain, **BLANK} for n in range(count)]
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
    verdict = deduped(table, params=DedupeParams(match=Match(mark=0.03)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    named = verdict["kept_id"].drop_null().to_pylist()
    assert len(named) == count - 1 and len(set(named)) == 1 and set(verdict["distance"].to_pylist()) == {None, 0}
    assert peak < 250 << 20, f"{peak >> 20} MiB"


def test_a_benchmark_of_white_pictures_takes_little_memory() -> None:
    rows = [
        {"sample_id": f"{n:05}", "messages": [], "image_info": [info]} for n, info in enumerate(white(2000, 0, 255))
    ]
    table = pa.Table.from_pylist(rows, SAMPLE)
    tracemalloc.start()
    index = indexed(DecontaminateParams(), table)
    others = pa.Table.from_pylist(
        [{**row, "image_info": [{**row["image_info"][0], "sha256": "x"}]} for row in rows], SAMPLE
    )
    verdict = decontaminated(others, DecontaminateParams(), index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(verdict["benchmark_id"].to_pylist()) == {"00000"}
    assert peak < 150 << 20, f"{peak >> 20} MiB"


@pytest.mark.parametrize("options", [{"radius": 65}, {"radius": -1}, {"leeway": 101}, {"leeway": -1}, {"mark": 0.3}])
def test_limits_outside_their_scale_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Match(**options)
