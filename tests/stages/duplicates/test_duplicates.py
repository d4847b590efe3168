"""Duplicates are the same words about the same picture; one of each stays, whatever the order."""

from __future__ import annotations

import functools
import io
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.duplicates.params import DedupeParams
from stages.filters.image_match import Match
from tests.stages.deduped import deduped
from tests.stages.pictures import bar_chart, cropped, encoded, page, photo, sample, table, talk


def judged(*samples: dict[str, Any], params: DedupeParams | None = None) -> dict[str, tuple[Any, Any, Any]]:
    """sample_id -> (reason, kept_id, distance)."""
    verdict = deduped(table(*samples), params=params)
    return {row["sample_id"]: (row["reason"], row["kept_id"], row["distance"]) for row in verdict.to_pylist()}


def reasons(*samples: dict[str, Any], params: DedupeParams | None = None) -> dict[str, str | None]:
    return {name: found[0] for name, found in judged(*samples, params=params).items()}


PICTURE = photo(1, 400, 300)
PNG = encoded(PICTURE)


def test_a_copy_is_dropped_and_names_the_one_that_stays() -> None:
    found = judged(sample("b", [PNG]), sample("a", [PNG]), sample("c", [encoded(photo(2))]))
    assert found == {"b": ("duplicate", "a", 0), "a": (None, None, None), "c": (None, None, None)}


def test_the_same_picture_with_other_words_stays() -> None:
    found = reasons(
        sample("a", [PNG]), sample("b", [PNG], question="Where is it?"), sample("c", [PNG], answer="A dog.")
    )
    assert set(found.values()) == {None}


def test_words_are_compared_without_case_width_and_white_space() -> None:
    first = sample("a", [PNG], question="What  is it?\n", answer="ＡＢＣ ｶﾅ")
    second = sample("b", [PNG], question="what is it?", answer="abc カナ")
    assert reasons(first, second) == {"a": None, "b": "duplicate"}


@pytest.mark.parametrize(
    "version",
    [
        lambda image: encoded(image, "JPEG", quality=90),
        lambda image: encoded(image, "JPEG", quality=60),
        lambda image: encoded(image, "WEBP", quality=90),
        lambda image: encoded(image.resize((300, 225), Image.Resampling.LANCZOS)),
        lambda image: encoded(image.resize((200, 150), Image.Resampling.BICUBIC), "JPEG", quality=85),
    ],
    ids=["jpeg 90", "jpeg 60", "webp", "three quarters", "half and jpeg"],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_re_encoded_or_resized_picture_is_near(version: Any, seed: int) -> None:
    image = photo(seed, 400, 300)
    found = judged(sample("a", [version(image)]), sample("z", [encoded(image.resize((401, 301)))]))
    reason, kept, distance = found["a"]
    assert (reason, kept) == ("near_duplicate", "z") and 0 <= distance <= 10
    assert found["z"] == (None, None, None)


@pytest.mark.parametrize(("mark", "reason"), [(0.0, None), (0.03, "near_duplicate")])
def test_a_photograph_with_a_mark_is_a_duplicate_where_the_recipe_says_so(mark: float, reason: str | None) -> None:
    marked = PICTURE.copy()
    marked.paste("red", (340, 250, 390, 280))
    found = judged(
        sample("a", [encoded(cropped(marked, 0.02), "JPEG")]),
        sample("z", [PNG]),
        params=DedupeParams(match=Match(mark=mark)),
    )
    assert sorted(str(row[0]) for row in found.values()) == sorted(["None", str(reason)])


def test_charts_of_one_template_are_not_one_chart() -> None:
    rng = random.Random(5)
    charts = [bar_chart([rng.randrange(5, 100) for _ in range(5)]) for _ in range(40)]
    samples = [sample(f"{n:02}", [encoded(chart)]) for n, chart in enumerate(charts)]
    assert set(reasons(*samples).values()) == {None}
    one_bar = [20, 50, 80, 40, 60]
    assert set(reasons(*(sample(str(h), [encoded(bar_chart([*one_bar[:4], h]))]) for h in (50, 60, 70))).values()) == {
        None
    }
    copy = sample("copy", [encoded(charts[0], "JPEG", quality=90)])
    found = judged(*samples, copy)
    assert {found[name][:2] for name in ("00", "copy")} in (
        {(None, None), ("near_duplicate", "00")},
        {(None, None), ("near_duplicate", "copy")},
    )
    assert sum(reason is not None for reason, *_ in found.values()) == 1


def test_different_photos_are_not_near() -> None:
    assert set(reasons(*(sample(str(seed), [encoded(photo(seed))]) for seed in range(30))).values()) == {None}


def test_the_larger_picture_stays_then_the_smaller_name() -> None:
    small, large = encoded(PICTURE.resize((200, 150))), encoded(PICTURE)
    assert reasons(sample("a", [small]), sample("b", [large]), sample("c", [large])) == {
        "a": "near_duplicate",
        "b": None,
        "c": "duplicate",
    }


def test_texts_alone_are_duplicates_too() -> None:
    found = reasons(sample("a"), sample("b"), sample("c", answer="Other."), sample("d", [PNG]))
    assert found == {"a": None, "b": "duplicate", "c": None, "d": None}


def test_all_pictures_must_match_in_their_places() -> None:
    one, two, other = PNG, encoded(photo(2, 400, 300)), encoded(photo(3, 400, 300))
    one_again, two_again = encoded(PICTURE, "JPEG", quality=90), encoded(photo(2, 400, 300), "JPEG", quality=90)
    found = reasons(
        sample("a", [one, two]),
        sample("b", [one_again, two_again]),
        sample("c", [two, one]),
        sample("d", [one, other]),
        sample("e", [one]),
        sample("f", [one, two]),
    )
    kept = "b" if found["b"] is None else "a"
    of_the_three = {name: found.pop(name) for name in "abf"}
    assert of_the_three in (
        {"a": None, "b": "near_duplicate", "f": "duplicate"},
        {"a": "near_duplicate", "b": None, "f": "near_duplicate"},
    )
    assert set(found.values()) == {None} and kept in "ab"


def test_a_chain_is_one_cluster_with_one_keeper() -> None:
    """a ~ b and b ~ c make one cluster even where a and d are too far apart to match."""
    width, height = PICTURE.size
    versions = [PICTURE.crop((off, off, width - off, height - off)) for off in (0, 8, 16, 24)]
    samples = [sample(name, [encoded(image)]) for name, image in zip("abcd", versions, strict=True)]
    found = judged(*samples)
    (kept,) = [name for name, (reason, *_) in found.items() if reason is None]
    assert {row[:2] for name, row in found.items() if name != kept} == {("near_duplicate", kept)}
    assert {reason for reason, *_ in judged(samples[0], samples[3]).values()} == {None}


def test_pages_are_compared_by_their_files() -> None:
    """Their signatures are alike whichever number one of them has."""
    versions = {"whole": page(), "cropped": cropped(page(), 0.02), "half": page().resize((450, 450))}
    others = {"5,120.7": page("5,120.7"), "5,121.7": page("5,121.7")}
    files = {name: encoded(image, "JPEG", quality=90) for name, image in {**versions, **others}.items()}
    found = judged(*(sample(name, [data]) for name, data in files.items()))
    assert {name: row[:2] for name, row in found.items()} == {
        "whole": (None, None),
        **dict.fromkeys(("cropped", "half"), ("near_duplicate", "whole")),
        **dict.fromkeys(others, (None, None)),
    }


def test_where_images_stand_counts_by_turn() -> None:
    both = [*talk(("user", "q"), ("assistant", "x"), images=1)]
    later = talk(("user", "q"), ("assistant", "x"))
    later[1]["content"].insert(0, {"type": "image", "text": None})
    assert reasons(sample("a", [PNG], messages=both), sample("b", [PNG], messages=later)) == {"a": None, "b": None}


def test_text_cannot_pass_as_another_turn() -> None:
    two = talk(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    one = talk(("user", "a"), ("assistant", "b\0user\x000\0c\0assistant\x000\0d"))
    forged = talk(("user", "a"), ("assistant", "b\0user\x000\x001\0c\0assistant\x000\x001\0d"))
    assert set(reasons(*(sample(str(n), messages=m) for n, m in enumerate((two, one, forged)))).values()) == {None}


def test_no_samples_give_no_verdicts() -> None:
    assert judged() == {}


def _pool() -> list[dict[str, Any]]:
    small = PICTURE.resize((300, 225))
    jpeg = encoded(PICTURE, "JPEG", quality=85)
    versions = {
        "png": PNG,
        "copy": PNG,
        "jpeg": jpeg,
        "small": encoded(small),
        "re-jpeg": encoded(Image.open(io.BytesIO(jpeg))),
    }
    pool = [sample(f"near/{name}", [data]) for name, data in versions.items()]
    pool += [sample(f"pair/{n}", [PNG, data]) for n, data in enumerate((jpeg, PNG, PNG))]
    pool += [sample(f"text/{n}") for n in range(3)] + [sample("other", [encoded(photo(9))])]
    return pool


POOL = _pool()


@functools.cache
def _in_order() -> dict[str, Any]:
    return judged(*POOL)


@given(st.permutations(range(len(POOL))))
@settings(max_examples=15)
def test_the_verdict_does_not_depend_on_the_order(order: list[int]) -> None:
    found = judged(*(POOL[number] for number in order))
    assert found == _in_order()
    kept = {name for name, row in found.items() if row[0] is None}
    assert {name.split("/")[0] for name in kept} == {"near", "pair", "text", "other"} and len(kept) == 4
    assert {row[1] for row in found.values() if row[0]} <= kept


def test_verdict_columns_are_as_declared() -> None:
    verdict = deduped(table(*POOL))
    assert verdict.schema.names == ["sample_id", "reason", "kept_id", "distance", "jaccard"]
    assert verdict.schema.field("distance").type == pa.int32()
