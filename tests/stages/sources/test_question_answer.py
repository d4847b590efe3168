"""What benchmarks have beyond one question, one answer and one image: options, several images, accepted answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import strict
from schemas.benchmark import Scoring
from schemas.strict import RecipeError
from stages.sources.one_record import adapted, unread
from stages.sources.shapes.draft import Draft, check
from tests.stages.sources.test_sources import Source, adapt

OPTIONS = ["No", "One", "Two"]
EXACT = Scoring("exact_match")


def answer(value: Any, choices: Any = OPTIONS) -> str:
    record = {"question": "How many?", "answer": value, "options": choices}
    text: str = adapt("question_answer", record, choices="options").messages[1]["content"][0]["text"]
    return text


def scored(record: dict[str, Any], **columns: Any) -> Draft:
    """The draft of a row of a benchmark."""
    return adapted(
        {"question": "How many?", **record}, Source("question_answer", ("*",), columns=columns, scoring=EXACT)
    )


def told(record: dict[str, Any], **columns: Any) -> tuple[Any, ...]:
    """(answer, references, choices, category) of a row of a benchmark."""
    draft = scored(record, **columns)
    return draft.messages[1]["content"][0]["text"], draft.references, draft.choices, draft.category


@pytest.mark.parametrize("value", [2, "2", "C", "c", "(C)", " C ", "Two", ["C"]])
def test_an_answer_is_looked_up_among_the_options(value: Any) -> None:
    assert answer(value) == "Two" == answer(value, str(OPTIONS)) == answer(value, json.dumps(OPTIONS))
    assert told({"answer": value, "options": str(OPTIONS)}, choices="options") == ("Two", ["C"], OPTIONS, None)


@pytest.mark.parametrize("choices", [None, [], "", "[]", " "])
def test_without_options_the_answer_is_what_it_says(choices: Any) -> None:
    assert answer("C", choices) == "C"
    assert told({"answer": "C", "options": choices}, choices="options") == ("C", ["C"], None, None)


@pytest.mark.parametrize(
    ("value", "choices", "said"),
    [
        (3, OPTIONS, "the answer '3' is none of 3 choices"),
        (-1, OPTIONS, "the answer '-1' is none of 3 choices"),
        ("D", OPTIONS, "the answer 'D' is none of 3 choices"),
        ("Three", OPTIONS, "the answer 'Three' is none of 3 choices"),
        (["C", "D"], OPTIONS, "the answer 'D' is none of 3 choices"),
        (None, OPTIONS, "the answer is null, wanted one of the choices"),
        (True, OPTIONS, "the answer is true or false, wanted one of the choices"),
        ("A", "No, One", "choices are a text that is no list"),
        ("A", "__import__('os')", "choices are a text that is no list"),
        ("A", "[" * 500, "choices are a text that is no list"),
        ("A", "[" * 100_000, "choices are a text that is no list"),
        ("A", "-" * 100_000 + "1", "choices are a text that is no list"),
        ("A", "[" + "1+" * 100_000 + "1]", "choices are a text that is no list"),
        ("A", "{'a': 1}", "choices is a mapping, wanted a list"),
        ("A", [{"bytes": b"", "path": None}] * 2, "a choice is a mapping, wanted text"),
        ("A", [True, False], "a choice is true or false, wanted text"),
        ("B", ["No", None, "Two"], "the answer 'B' is none of 3 choices"),
        ("C", ["No", "One", None], "the answer 'C' is none of 2 choices"),
        ("A", [None, None], "all of 2 choices are empty"),
    ],
)
def test_an_answer_that_is_none_of_the_options(value: Any, choices: Any, said: str) -> None:
    with pytest.raises(ValueError, match="malformed_record") as caught:
        answer(value, choices)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("choices", "options"),
    [
        (["No", None, "Two"], ["No", "", "Two"]),  # its letter stays C
        (["No", "One", "Two", None, float("nan"), ""], ["No", "One", "Two"]),
        ('["No", null, "Two"]', ["No", "", "Two"]),
        (["<image 1>", "<image 2>", "Two"], ["<image 1>", "<image 2>", "Two"]),
        ('["\\u3044", "\\ud83d\\ude00", "Two"]', ["い", "😀", "Two"]),
        ([3, 4.5, "Two"], ["3", "4.5", "Two"]),
    ],
)
def test_options_keep_their_letters(choices: Any, options: list[str]) -> None:
    assert told({"answer": "C", "options": choices}, choices="options") == ("Two", ["C"], options, None)


def test_options_may_have_a_column_each() -> None:
    several = {"choices": ["a", "b", "c", "d"]}
    row = {"a": "No", "b": "One", "c": "Two", "d": None, "answer": "C"}
    assert told(row, **several) == ("Two", ["C"], OPTIONS, None)
    assert told({**dict.fromkeys("abcd"), "answer": "C"}, **several) == ("C", ["C"], None, None)
    assert unread(row, Source("question_answer", ("*",), columns=several)) == set()


@given(st.lists(st.text(min_size=1), min_size=1, max_size=26), st.data())
def test_every_letter_finds_its_option_however_the_list_is_written(options: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(options) - 1))
    ways: list[Any] = [options, json.dumps(options), repr(options)]
    letter = chr(ord("A") + place)
    for written in ways:
        assert told({"answer": letter, "options": written}, choices="options") == (
            *(options[place], [letter], options, None),
        )


def test_of_a_benchmark_every_option_has_a_letter() -> None:
    row = {"answer": 0, "options": [f"option {number}" for number in range(27)]}
    with pytest.raises(ValueError, match="malformed_record: 27 choices, and letters for 26"):
        told(row, choices="options")
    assert answer(0, row["options"]) == "option 0"  # what is learnt needs none
    assert told({**row, "options": row["options"][:26]}, choices="options")[1] == ["A"]


def test_a_letter_is_an_answer_where_the_source_names_no_options() -> None:
    draft = adapt("question_answer", {"question": "Which?", "answer": "B", "choices": OPTIONS, "": OPTIONS})
    assert draft.messages[1]["content"][0]["text"] == "B"


def test_of_accepted_answers_the_first_is_the_answer() -> None:
    draft = adapt("question_answer", {"question": "Which?", "answers": ["two", "2"]}, answer="answers")
    assert draft.messages[1]["content"][0]["text"] == "two"
    assert (draft.references, draft.choices, draft.category) == (None, None, None)


def test_all_accepted_answers_are_references_each_as_often_as_it_was_given() -> None:
    assert told({"answers": ["two", "2", None, "two", 2]}, answer="answers")[:2] == ("two", ["two", "2", "two", "2"])
    assert told({"answer": "[1, 2]"})[1] == ["[1, 2]"]


def test_an_open_question_among_others_may_have_a_written_list_of_answers() -> None:
    said = "['24/7', '3.43']"
    assert told({"answer": said, "options": "[]"}, choices="options") == (said, ["24/7", "3.43"], None, None)
    assert told({"answer": "[0, 1)", "options": "[]"}, choices="options")[1] == ["[0, 1)"]


@pytest.mark.parametrize(("value", "category"), [("art", "art"), (3, "3"), (None, None), ("", None)])
def test_a_category_is_read_where_the_source_names_its_column(value: Any, category: str | None) -> None:
    assert told({"answer": "2", "kind": value}, category="kind")[3] == category
    assert told({"answer": "2", "category": value})[3] is None


def test_a_category_that_is_no_text_costs_the_row() -> None:
    with pytest.raises(ValueError, match="malformed_record: the category is a list, wanted text"):
        told({"answer": "2", "kind": ["a"]}, category="kind")


@pytest.mark.parametrize("row", [{"answer": "a", "kind": "\ud800"}, {"answer": ["a", "\ud800"]}])
def test_what_is_compared_has_to_be_storable(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        check(scored(row, category="kind"))


def test_options_and_answers_count_as_text_of_the_row() -> None:
    row = {"answer": "A", "options": ["x" * 10, "y" * 20]}
    assert check(scored(row, choices="options")) == len("How many?") + 10 + len("A") + 30


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"scoring": {"metrik": "anls"}}, "scoring.metrik: unknown key; did you mean 'metric'?"),
        ({"scoring": {"metric": "anl"}}, "did you mean 'anls'?"),
        ({"scoring": {"metric": "anls", "prompt": "Answer."}}, "has no {question}; put it where the question goes"),
        (
            {"columns": {"choices": "options"}, "scoring": {"metric": "multiple_choice"}},
            "multiple_choice needs {choices} where the options go",
        ),
        (
            {"scoring": {"metric": "multiple_choice", "prompt": "{question} {choices}"}},
            "scoring.prompt: has {choices}, and columns names none",
        ),
        (
            {"format": "caption", "scoring": {"metric": "anls"}},
            "caption has no answers to compare with; benchmarks are",
        ),
        ({"columns": {"choice": "a"}}, "did you mean 'choices'?"),
        ({"columns": {"question": ["a", "b"]}}, "columns.question: got a list, ['a', 'b'], wanted one column's name"),
        ({"columns": {"choices": []}}, "columns.choices: got a list, [], wanted at least one"),
        ({"columns": {"choices": ["a", "b"]}, "ignore": ["b"]}, "ignore: 'b' is a column that question_answer reads"),
    ],
)
def test_a_declaration_of_a_benchmark_is_strict(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        strict.build(Source, {"format": "question_answer", "files": ["*"], **keys})
    assert said in str(caught.value)


def test_numbered_images_follow_the_named_one_in_the_order_of_their_numbers() -> None:
    images = {f"image_{n}": {"bytes": bytes([n]), "path": None} if n != 3 else None for n in (10, 2, 3, 1)}
    record = {**images, "image": "a.jpg", "image_name": "x", "question": "Which?", "answer": "B"}
    draft = adapt("question_answer", record)
    assert [ref.data or ref.path for ref in draft.images] == ["a.jpg", b"\1", b"\2", b"\n"]
    assert [ref.data for ref in adapt("question_answer", record, image="image_10").images] == [b"\n", b"\1", b"\2"]
    assert unread(record, Source("question_answer", ("*",))) == {"image_name"}
