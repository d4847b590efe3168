"""Who stays of duplicates: by the recipe's order of keys, and never one that another filter drops."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.duplicates import choice
from stages.duplicates.params import DedupeParams, Key
from stages.duplicates.sketch import bands
from stages.filters.image_match import Match
from stages.stage import counts
from tests.stages.deduped import deduped, told
from tests.stages.pictures import encoded, photo, sample, table, talk

PICTURE = photo(1, 400, 300)
SMALL, LARGE = encoded(PICTURE.resize((200, 150))), encoded(PICTURE)


def rated(value: float) -> list[dict[str, Any]]:
    return [{"name": "relevance_min", "value": value}]


# three sources with the same sample: the first small, the second large, the third rated
FIRST, SECOND = table(sample("first", [SMALL])), table(sample("second", [LARGE], scores=rated(3)))
THIRD = table(sample("third", [SMALL], scores=rated(5)))


@pytest.mark.parametrize(
    ("prefer", "kept"),
    [
        (("source", "resolution", "rating"), "first"),
        (("resolution", "source"), "second"),
        (("rating",), "third"),
        (("rating", "resolution"), "third"),
    ],
)
def test_the_recipe_says_who_stays(prefer: tuple[Key, ...], kept: str) -> None:
    found = told(deduped(FIRST, SECOND, THIRD, params=DedupeParams(prefer=prefer)))
    assert {name for name, (reason, *_) in found.items() if reason is None} == {kept}
    assert {row[1] for name, row in found.items() if name != kept} == {kept}


def test_nothing_is_dropped_in_favour_of_what_another_filter_drops() -> None:
    """The best is dropped by a filter: the next one stays, and what no filter keeps is no duplicate of anything."""
    found = told(deduped(FIRST, SECOND, THIRD, dropped=["first"]))
    assert found == {"first": (None,) * 3, "second": (None,) * 3, "third": ("near_duplicate", "second", 0)}
    found = told(deduped(FIRST, SECOND, THIRD, dropped=["first", "second"]))
    assert {reason for reason, *_ in found.values()} == {None}


POOL = [
    *(sample(f"near/{n}", [data]) for n, data in enumerate((SMALL, LARGE, LARGE))),
    *(sample(f"text/{n}") for n in range(3)),
    sample("pair", [LARGE, SMALL]),
    sample("other", [encoded(photo(9))]),
    sample("another question", [LARGE], question="Where?"),
]


@given(
    st.permutations(range(len(POOL))),
    st.integers(0, len(POOL)),
    st.sets(st.sampled_from([one["sample_id"] for one in POOL])),
    st.integers(1, 7),
    st.sampled_from(["sample", "image"]),
)
@settings(max_examples=60)
def test_one_of_each_group_stays_whatever_the_parts_and_buckets(
    order: list[int], cut: int, dropped: set[str], buckets: int, unit: Any
) -> None:
    """Of every group one that all filters keep stays, if there is one; where parts are cut and rows are exchanged
    changes nothing but which source is preferred."""
    chosen = [POOL[number] for number in order]
    params = DedupeParams(unit=unit, prefer=("resolution",))
    parts = [table(*chosen[:cut]), table(*chosen[cut:])]
    verdict = deduped(*parts, params=params, dropped=dropped, buckets=buckets)
    found = told(verdict)
    assert found == told(deduped(table(*POOL), params=params, dropped=dropped))
    assert not any(found[name][0] for name in dropped)
    named = {kept for _, kept, _ in found.values() if kept}
    assert all(found[str(kept)][0] is None and kept not in dropped for kept in named)
    pictures = {"near/0", "near/1", "near/2"} | ({"another question"} if unit == "image" else set())
    for group in (pictures, {"text/0", "text/1", "text/2"}):
        alive = group - dropped
        assert sum(found[name][0] is None for name in alive) == min(1, len(alive))
    assert found["other"][0] is found["pair"][0] is None
    assert counts(verdict).rows_in == len(POOL)


def test_one_picture_with_many_captions_is_one_sample_where_the_unit_is_the_image() -> None:
    texts = [sample(str(n), [SMALL if n % 2 else LARGE], answer=f"Caption {n}.") for n in range(6)]
    other = sample("other", [encoded(photo(2, 400, 300))], answer="Caption 1.")
    by_image = told(deduped(table(*texts, other), params=DedupeParams(unit="image")))
    assert [name for name, (reason, *_) in by_image.items() if reason is None][1:] == ["other"]
    assert {reason for reason, *_ in told(deduped(table(*texts, other))).values()} == {None}


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=10), st.integers(10, 20))
def test_hashes_within_the_radius_share_a_band(phash: int, flips: set[int], radius: int) -> None:
    other = phash
    for bit in flips:
        other ^= 1 << bit
    assert len(list(bands(phash, radius + 1))) == radius + 1
    shared = zip(bands(phash, radius + 1), bands(other, radius + 1), strict=True)
    assert any(left == right for left, right in shared)


def test_bands_are_the_whole_hash() -> None:
    for number in (1, 2, 4, 11, 64, 65):
        parts = list(bands(2**64 - 1, number))
        assert sum(part.bit_count() for part in parts) == 64 and min(parts) > 0


def test_a_key_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="prefer: got source, source, wanted each key once"):
        DedupeParams(prefer=("source", "source"))


def test_verdicts_of_other_samples_are_refused() -> None:
    from stages.duplicates.choice import CHOICE, verdicts

    row = {"part": 0, "row": 0, "sample_id": "a", "reason": "duplicate", "kept_id": "b", "distance": 0}
    with pytest.raises(ValueError, match="row 0 is x, what was compared is a"):
        verdicts(pa.chunked_array([["x", "y"]]), pa.Table.from_pylist([row], CHOICE))


def test_a_text_about_no_picture_is_compared_too() -> None:
    messages = talk(("user", "q"), ("assistant", "a"))
    for unit in ("sample", "image"):
        params = DedupeParams(unit=unit, match=Match(radius=3))
        found = told(deduped(table(sample("a", messages=messages), sample("b", messages=messages)), params=params))
        assert sorted(str(reason) for reason, *_ in found.values()) == ["None", "duplicate"]


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_groups_may_be_judged_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    others = [sample(f"alone/{n}", answer=f"Another {n}.") for n in range(3)]
    pairs = [sample(f"two/{n}", answer=f"The same {n // 2}.") for n in range(8)]
    parts = [table(*POOL[:5]), table(*pairs, *others), table(*POOL[5:])]
    whole = told(deduped(*parts, dropped=["near/0", "two/2"]))
    monkeypatch.setattr(choice, "_CHUNK", chunk)
    assert told(deduped(*parts, dropped=["near/0", "two/2"])) == whole
    assert sum(reason is not None for reason, *_ in whole.values()) == 6
