"""Alpaca's instructions: what the question is made of, the history, the system, images at their marks."""

from __future__ import annotations

from typing import Any

import pytest

from stages.sources.declaration import Source
from stages.sources.shapes.draft import BadRow, check
from stages.sources.table import FORMATS


def turns(**record: Any) -> list[tuple[str, str]]:
    """(role, text) of each turn; an image is shown as itself."""
    draft = FORMATS["alpaca"].adapt(record, Source("alpaca", ("*",)).reading)
    check(draft)
    return [(m["role"], "".join(b["text"] or "[image]" for b in m["content"])) for m in draft.messages]


@pytest.mark.parametrize("nothing", [{}, {"input": ""}, {"input": None}])
def test_an_instruction_without_input_is_the_question(nothing: dict[str, Any]) -> None:
    assert turns(instruction="Tell a joke.", output="No.", **nothing) == [
        ("user", "Tell a joke."),
        ("assistant", "No."),
    ]


def test_the_input_stands_below_the_instruction() -> None:
    assert turns(instruction="Translate.", input="猫", output="cat")[0] == ("user", "Translate.\n猫")
    assert turns(instruction="", input="猫", output="cat")[0] == ("user", "猫")


def test_history_and_system_come_before() -> None:
    found = turns(instruction="c", output="d", history=[["a", "b"]], system="s")
    assert found == [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert turns(instruction="c", output="d", history=None) == turns(instruction="c", output="d", history=[])


def test_images_stand_at_their_marks_or_first() -> None:
    assert turns(instruction="See <image>!", output="d", images=["a.png"])[0] == ("user", "See [image]!")
    assert turns(instruction="See!", output="d", images=["a.png"])[0] == ("user", "[image]See!")
    found = turns(instruction="c", output="d", images=["a.png"], history=[["See <image>!", "b"]])
    assert found[0] == ("user", "See [image]!") and found[2] == ("user", "c")
    assert turns(instruction="What is <image> in SVG?", output="<image>")[0] == ("user", "What is <image> in SVG?")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"instruction": "a"}, "malformed_record"),
        ({"instruction": "a", "output": ["b", "c"]}, "malformed_record"),
        ({"instruction": 1, "output": "b"}, "malformed_record"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "malformed_record"),
        ({"instruction": "a", "output": "b", "history": ["xy"]}, "malformed_record"),
        ({"instruction": "See <image>", "output": "b", "images": []}, "placeholder_mismatch"),
    ],
)
def test_what_is_no_alpaca_is_refused(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        turns(**record)
    assert caught.value.reason == reason
