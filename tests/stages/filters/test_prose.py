"""What of a turn is prose, and that hostile text costs little."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.filters.prose import JUDGED, WINDOW, prose


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Look:\n```python\nfor word in words: print(word)\n``` That is all", "Look: That is all"),
        ("Cut off ```js\nconst a = b", "Cut off"),
        ("Call `np.mean` here", "Call here"),
        ("The area is $\\frac{a}{b}$ and $$x^2 + y$$ and \\[ a = b \\] done", "The area is and and done"),
        ("so \\begin{align} a &= b \\end{align} holds", "so holds"),
        ("<image>\nWhat <b>does</b> it say? <|end|>", "What does it say?"),
        ("before <pre>int main() { return x; }</pre> after", "before after"),
        ("see https://example.org/a/b?c=d or www.example.org now", "see or now"),
        ("见https://example.org/a。 好的", "见 。 好的"),
        ("write to anna.b@example.org please", "write to please"),
        ("open /usr/share/doc or C:\\Temp\\a and ~/notes.txt or images/train/a or photo.jpg", "open or and or or"),
        ("it is and/or so", "it is and or so"),
        ('{"name": "a dog", "where": "a park"}', "a dog , a park"),
        ("%s of {total} in my_variable with --verbose", "of in with"),
        ("It costs 1,234 or 50 % more &amp; better", "It costs , or more better"),
        ("two\n  lines\u3000and\tmore", "two lines and more"),
        ("देवनागरी में लिखा है", "देवनागरी में लिखा है"),
        ("ภาษาไทยที่นี่", "ภาษาไทยที่นี่"),
        ("a\ud800b", "a?b"),
        ("123 + 456 = 579", ""),
        ("", ""),
    ],
)
def test_what_is_no_prose_goes(text: str, left: str) -> None:
    assert " ".join(prose(text).split()) == left


def test_of_a_long_text_beginning_and_middle_are_judged() -> None:
    text = "begin " * 2_000 + "mid " * 3_000 + "end " * 3_000
    found = prose(text)
    assert len(found) <= JUDGED
    assert "begin" in found and "mid" in found
    assert prose("x " * 100) == ("x " * 100).strip()


def test_a_window_that_opens_in_a_code_block_knows_it() -> None:
    text = "Here it is:\n```\n" + "variable equals another\n" * 1_000 + "```\nThe end of it."
    assert "variable" not in prose(text)
    assert "Here it is" in prose(text) and "The end of it" in prose(text)


@given(st.text() | st.text('`$\\<>&"/_{}()[]-. a1\u3042', max_size=300))
def test_any_text_has_prose_that_the_model_can_read(text: str) -> None:
    found = prose(text)
    found.encode()
    assert len(found) <= JUDGED and "\n" not in found
    assert found == prose(text)


HOSTILE = [
    "```",
    "$",
    "\\[",
    "\\(",
    "<",
    "<a",
    "<code>",
    '"',
    "a/",
    "a_",
    "&a",
    "-",
    "--a",
    "a.",
    "x://",
    "{",
    "\\begin{a}",
]


@pytest.mark.parametrize("piece", [*HOSTILE, "\n", " ", "a", "\u3042", "\u0301", "\ud800", "www.", "@", "$a$", "[a]("])
def test_a_megabyte_of_anything_takes_no_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    prose(text)
    prose(text[: 3 * WINDOW])
    assert time.process_time() - start < 0.25
