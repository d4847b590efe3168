"""Each rule drops what it names, at its limit and not before; the first reason wins."""

from __future__ import annotations

from typing import Any

import pytest

from stages.filters.quality import QUALITY, QualityParams
from tests.stages.pictures import sample, table, talk


def info(width: int, height: int) -> dict[str, Any]:
    return {"width": width, "height": height}


def judged(*samples: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    return list(QUALITY.verdicts(table(*samples), QualityParams(**params), None).to_pylist())


def reason(one: dict[str, Any], **params: Any) -> str | None:
    return str(judged(one, **params)[0]["reason"] or "") or None


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([("user", "q"), ("assistant", "")], "empty_answer"),
        ([("user", "q"), ("assistant", " \n\t\u3000")], "empty_answer"),
        ([("user", "q"), ("assistant", "a"), ("user", "q"), ("assistant", "")], "empty_answer"),
        ([("user", ""), ("assistant", "a")], "empty_question"),
        ([("user", "q"), ("assistant", "a"), ("user", " \n"), ("assistant", "a")], "empty_question"),
        ([("user", "q"), ("assistant", "a"), ("user", "q")], "no_last_answer"),
        ([("user", "q"), ("assistant", "a"), ("system", "s")], "no_last_answer"),
        ([("user", "q"), ("assistant", ""), ("user", "q")], "empty_answer"),
        ([("system", ""), ("user", "q"), ("assistant", ".")], None),
        ([("assistant", "a document")], None),
    ],
)
def test_a_turn_that_says_nothing_or_is_missing(turns: list[tuple[str, str]], expected: str | None) -> None:
    assert reason(sample("a", messages=talk(*turns))) == expected


def test_a_question_that_is_an_image_alone_is_none_that_says_nothing() -> None:
    turns = talk(("user", ""), ("assistant", "a"), images=1)
    assert reason(sample("a", messages=turns)) is None
    turns = talk(("user", ""), ("assistant", "a"), ("user", ""), ("assistant", "a"), images=1)
    assert reason(sample("a", messages=turns)) == "empty_question"


def rated(**scores: float) -> dict[str, Any]:
    return sample("a", scores=[{"name": name, "value": value} for name, value in scores.items()])


def test_ratings_count_only_where_the_recipe_sets_a_minimum() -> None:
    low = rated(relevance_min=2.0, formatting_min=5.0)
    assert reason(low) is None
    assert reason(low, min_scores={"relevance_min": 2.0}) is None
    assert reason(low, min_scores={"relevance_min": 2.5}) == "low_rating"
    assert reason(low, min_scores={"formatting_min": 5.0, "relevance_min": 3.0}) == "low_rating"
    assert reason(low, min_scores={"visual_min": 5.0}) is None
    assert reason(sample("a"), min_scores={"relevance_min": 5.0}) is None
    assert reason(sample("a", scores=None), min_scores={"relevance_min": 5.0}) is None


def test_the_smallest_side_of_any_image() -> None:
    two = sample("a", image_info=[info(500, 400), info(28, 90)])
    assert reason(two, min_image_side=28) is None
    assert reason(two, min_image_side=29) == "small_image"
    assert reason(sample("a"), min_image_side=1000) is None


def test_the_most_extreme_aspect_of_any_image() -> None:
    for sides in ((100, 500), (500, 100)):
        one = sample("a", image_info=[info(10, 10), info(*sides)])
        assert reason(one) is None
        assert reason(one, max_aspect=5.0) is None
        assert reason(one, max_aspect=4.9) == "extreme_aspect"
    assert reason(sample("a"), max_aspect=1.0) is None


def test_characters_of_all_turns_count() -> None:
    long = sample("a", messages=talk(("system", "日本"), ("user", "abc"), ("assistant", "de"), images=2))
    assert reason(long, max_characters=7) is None
    assert reason(long, max_characters=6) == "long_text"


def test_evidence_is_what_the_rules_saw_and_the_first_reason_wins() -> None:
    bad = sample("a", image_info=[info(10, 40)], messages=talk(("user", "abc"), ("assistant", ""), images=1))
    rows = judged(bad, sample("b"), min_image_side=20, max_characters=1)
    assert {name: value for name, value in rows[0].items() if value is not None} == {
        "sample_id": "a",
        "reason": "empty_answer",
        "turns": 1,
        "characters": 3,
        "smallest_side": 10,
        "largest_aspect": 4.0,
        "fewest_pixels": 400,
        "most_pixels": 400,
        "turn_characters": [3],
        "shortest_question": [None],
        "question_characters": [3],
        "shortest_answer": [0],
        "answer_characters": [0],
        "asked": [True],
        "answered": [True],
        "out_of_order": [0],
        "echo": [False],
        "copy": [False],
    }
    assert (rows[1]["reason"], rows[1]["smallest_side"], rows[1]["largest_aspect"]) == ("long_text", None, None)


def test_a_limit_that_is_no_number_in_binary_is_met_by_what_equals_it() -> None:
    assert reason(rated(clip=0.7), min_scores={"clip": 0.7}) is None
    assert reason(rated(clip=0.7), min_scores={"clip": 0.71}) == "low_rating"
    wide = sample("a", image_info=[info(270, 100)])
    assert reason(wide, max_aspect=2.7) is None and reason(wide, max_aspect=2.69) == "extreme_aspect"
