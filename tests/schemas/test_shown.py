"""What is not ours reaches no terminal as it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas import yaml_file
from schemas.shown import shown, shown_lines


def test_what_a_terminal_obeys_is_escaped_and_words_are_not() -> None:
    assert shown("a\x1b[31mb\x07\x9b\r\n\t") == r"a\x1b[31mb\x07\x9b\x0d\x0a\x09"
    assert shown("\u202eabc\u2066\u200b\u2028\ufeff") == r"\u202eabc\u2066\u200b\u2028\ufeff"
    assert shown("caf\udce9") == r"caf\udce9"
    assert shown("日本語 été 👩‍🚀 :smile: [bold]") == "日本語 été 👩‍🚀 :smile: [bold]"
    assert shown_lines("a\tb\nc\r") == "a\tb\nc\\x0d"


@given(st.text(st.characters(), max_size=30))
def test_what_is_shown_can_be_written_and_moves_no_cursor(text: str) -> None:
    line = shown(text)
    assert line.encode("utf-8").decode() == line == shown(line) and len(line.splitlines()) < 2
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in line)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_yaml_that_is_printed_is_escaped_and_reads_back(text: str) -> None:
    written = yaml_file.dump({"a": text, "b": [text]})
    assert shown_lines(written) == written and yaml_file.parse(written, "x") == {"a": text, "b": [text]}
