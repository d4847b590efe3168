"""What filters do where a recipe says little, and what they look at."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from stages.filters.detect import detect
from stages.filters.image_match import Match
from stages.filters.language import LanguageParams
from stages.filters.quality import QUALITY, QualityParams
from stages.filters.table import FILTERS
from stages.stage import Filter
from tests.stages.pictures import sample, table, talk


def quality(one: dict[str, Any]) -> dict[str, Any]:
    (row,) = QUALITY.verdicts(table(one), QualityParams(), None).to_pylist()
    return dict(row)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_goes_by_the_name_of_its_module(name: str) -> None:
    assert FILTERS[name].judge.__module__.rpartition(".")[2] == name


def test_quality_without_numbers_drops_empty_answers_alone() -> None:
    sides = [{"width": 1, "height": 1}, {"width": 1, "height": 5000}]
    scores = [{"name": "relevance_min", "value": 0.0}]
    assert quality(sample("a", image_info=sides, scores=scores, answer="x" * 100_000))["reason"] is None


def test_a_conversation_without_an_answer_or_a_turn_is_dropped() -> None:
    assert quality(sample("a", messages=talk(("system", "s"), ("user", "q"))))["reason"] == "no_last_answer"
    assert quality(sample("a", messages=talk(("system", "s"))))["reason"] == "few_turns"
    assert quality(sample("a", messages=[]))["reason"] == "few_turns"


def test_the_length_of_an_answer_is_that_of_all_its_blocks() -> None:
    one = sample(
        "a", messages=talk(("user", "question"), ("assistant", "ab"), ("user", "?"), ("assistant", "long one"))
    )
    one["messages"][1]["content"] += [{"type": "image", "text": None}, {"type": "text", "text": "cd "}]
    found = quality(one)
    assert found["shortest_answer"] == [len("ab cd"), 8] and found["characters"] == len(
        "question" + "abcd " + "?long one"
    )


class Says:
    """A model with one answer."""

    def __init__(self, score: float) -> None:
        self.score, self.texts = score, list[str]()

    def predict(self, text: str, k: int) -> tuple[list[str], list[float]]:
        self.texts.append(text)
        return ["__label__de"], [self.score]


def language(model: Says, text: str = "zehn Worte", **params: Any) -> dict[str, Any]:
    messages = talk(("user", text), ("assistant", ""))
    chosen = LanguageParams(**{"keep": ("en",), **params})
    (row,) = FILTERS["language"].verdicts(table(sample("a", messages=messages)), chosen, model).to_pylist()
    return dict(row)


@pytest.mark.parametrize(
    ("score", "text", "certain"),
    [
        (0.6, "abcde fghij abcde fghij", True),
        (0.59, "abcde fghij abcde fghij", False),
        (0.6, "abcde fghij abcde fghi", False),
        (1.7, "abcde fghij abcde fghij", True),
    ],
)
def test_an_answer_is_certain_from_six_tenths_and_twenty_letters_on(score: float, text: str, certain: bool) -> None:
    row = language(Says(score), text)
    assert row["certain"] == certain and row["reason"] == ("wrong_language" if certain else None)
    assert row["confidence"] == pytest.approx(min(score, 1))
    assert language(Says(score), text, undetermined="drop")["reason"] == (
        "wrong_language" if certain else "undetermined_language"
    )


@pytest.mark.parametrize(
    ("params", "certain"),
    [
        ({"min_confidence": 0.8, "min_characters": 13}, True),
        ({"min_confidence": 0.81, "min_characters": 13}, False),
        ({"min_confidence": 0.0, "min_characters": 13}, True),
        ({"min_confidence": 0.0, "min_characters": 14}, False),
    ],
)
def test_limits_of_certainty_are_the_recipes(params: dict[str, Any], certain: bool) -> None:
    assert language(Says(0.8), "dreizehn + Worte", **params)["certain"] == certain


def test_the_model_sees_one_line_of_valid_text() -> None:
    model = Says(0.9)
    assert detect("  a\n\tb\ud800  c\u3000\n", model) == ("de", pytest.approx(0.9), 3, False)
    assert model.texts == ["a b? c"]


def test_the_model_sees_the_short_turns_of_each_side_with_a_blank_between_them() -> None:
    model = Says(0.9)
    messages = talk(("system", "a"), ("user", "b\n"), ("assistant", "c"), ("user", ""), ("assistant", "d"), images=2)
    FILTERS["language"].verdicts(table(sample("a", messages=messages)), LanguageParams(("en",)), model)
    assert model.texts == ["a b", "c d"]


@pytest.mark.parametrize("code", ["", "e", "EN", "en-US", "engl", "日本", "e1"])
def test_what_is_no_language_code_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="is no language code"):
        LanguageParams(keep=("en", code))
    assert LanguageParams(keep=("en", "ceb")).keep == ("en", "ceb")


def test_limits_of_a_match_include_their_ends() -> None:
    assert Match(0, 0).radius == 0 and Match(64, 100).leeway == 100


def test_swapped_evidence_columns_of_one_type_are_refused() -> None:
    declared = pa.schema([("a", pa.int32()), ("b", pa.int32())])
    swapped = pa.table({"b": pa.array([1], pa.int32()), "a": pa.array([2], pa.int32())})
    probe = Filter("probe", 1, object, {}, (), declared, lambda *_: ([None], swapped))
    with pytest.raises(ValueError, match=r"probe: evidence is \['b', 'a'\], declared is \['a', 'b'\]"):
        probe.verdicts(table(sample("x")), None, None)
