"""What benchmarks have beyond one question, one answer and one image: options, several images, accepted answers."""

from __future__ import annotations

from typing import Any

import pytest

from stages.sources.one_record import unread
from tests.stages.sources.test_sources import Source, adapt

OPTIONS = ["No", "One", "Two"]


def answer(value: Any, choices: Any = OPTIONS) -> str:
    record = {"question": "How many?", "answer": value, "options": choices}
    text: str = adapt("question_answer", record, choices="options").messages[1]["content"][0]["text"]
    return text


@pytest.mark.parametrize("value", [2, "2", "C", "c", "(C)", " C ", "Two"])
def test_an_answer_is_looked_up_among_the_options(value: Any) -> None:
    assert answer(value) == "Two" == answer(value, str(OPTIONS))


@pytest.mark.parametrize("choices", [None, [], "", "[]", " "])
def test_without_options_the_answer_is_what_it_says(choices: Any) -> None:
    assert answer("C", choices) == "C"


@pytest.mark.parametrize(
    ("value", "choices", "said"),
    [
        (3, OPTIONS, "the answer '3' is none of 3 choices"),
        (-1, OPTIONS, "the answer '-1' is none of 3 choices"),
        ("D", OPTIONS, "the answer 'D' is none of 3 choices"),
        ("Three", OPTIONS, "the answer 'Three' is none of 3 choices"),
        (None, OPTIONS, "the answer is null, wanted one of the choices"),
        (True, OPTIONS, "the answer is true or false, wanted one of the choices"),
        ("A", "No, One", "choices are a text that is no list"),
        ("A", "__import__('os')", "choices are a text that is no list"),
        ("A", "[" * 500, "choices are a text that is no list"),
        ("A", "-" * 100_000 + "1", "choices are a text that is no list"),
        ("A", "[" + "1+" * 100_000 + "1]", "choices are a text that is no list"),
        ("A", "{'a': 1}", "choices is a mapping, wanted a list"),
        (0, [3, 4], "a turn's text is a number"),
    ],
)
def test_an_answer_that_is_none_of_the_options(value: Any, choices: Any, said: str) -> None:
    with pytest.raises(ValueError, match="malformed_record") as caught:
        answer(value, choices)
    assert said in str(caught.value)


def test_a_letter_is_an_answer_where_the_source_names_no_options() -> None:
    draft = adapt("question_answer", {"question": "Which?", "answer": "B", "choices": OPTIONS, "": OPTIONS})
    assert draft.messages[1]["content"][0]["text"] == "B"


def test_of_accepted_answers_the_first_is_the_answer() -> None:
    draft = adapt("question_answer", {"question": "Which?", "answers": ["two", "2"]}, answer="answers")
    assert draft.messages[1]["content"][0]["text"] == "two"


def test_numbered_images_follow_the_named_one_in_the_order_of_their_numbers() -> None:
    images = {f"image_{n}": {"bytes": bytes([n]), "path": None} if n != 3 else None for n in (10, 2, 3, 1)}
    record = {**images, "image": "a.jpg", "image_name": "x", "question": "Which?", "answer": "B"}
    draft = adapt("question_answer", record)
    assert [ref.data or ref.path for ref in draft.images] == ["a.jpg", b"\1", b"\2", b"\n"]
    assert [ref.data for ref in adapt("question_answer", record, image="image_10").images] == [b"\n", b"\1", b"\2"]
    assert unread(record, Source("question_answer", ("*",))) == {"image_name"}
