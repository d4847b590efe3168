"""N-grams are the same whatever a text's looks, for words and for characters alike, and on every machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.filters.ngrams import grams, has_digit, tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What's the  TITLE?", ["what", "s", "the", "title"]),
        ("<image 1> costs 1,234.5, not <image>1,2", ["costs", "1234", "5", "not", "1", "2"]),
        ("図1の「本」ー", ["図", "1", "の", "本", "ー"]),
        ("हिन्दी का टेस्ट", ["हिन्दी", "का", "टेस्ट"]),
        ("한국어 질문", ["한국어", "질문"]),
        ("ＡＢＣ Ｃafé snake_case", ["abc", "café", "snake", "case"]),
        ("?!…", []),
    ],
)
def test_a_text_is_words_and_dense_characters(text: str, words: list[str]) -> None:
    assert tokens(text).words == words


def test_a_character_weighs_half_a_word() -> None:
    assert tokens("図1の本").size == 2.5 and tokens("one two").size == 2 and tokens("").size == 0


def test_an_ngram_ends_where_it_weighs_enough() -> None:
    found = grams(tokens("a b 図 の 本 を c"), 2)
    assert list(zip(found.start.tolist(), found.end.tolist(), strict=True)) == [(0, 2), (1, 4), (2, 6), (3, 7), (4, 7)]
    assert len(grams(tokens("a b c"), 4).hashes) == 0 == len(grams(tokens(""), 4).hashes)


def test_the_hash_of_an_ngram_is_that_of_every_machine() -> None:
    assert grams(tokens("The quick, brown FOX"), 4).hashes.tolist() == [12604066041185269969]


def test_whether_a_token_is_a_number() -> None:
    assert has_digit("2010s") and has_digit("٣") and not has_digit("ten")


@given(st.lists(st.sampled_from(["Cat", "3", "図", "本", "ß", "été"]), min_size=1, max_size=30), st.integers(1, 6))
def test_looks_make_no_difference_and_the_place_in_a_text_neither(words: list[str], n: int) -> None:
    plain = grams(tokens(" ".join(words)), n).hashes.tolist()
    assert grams(tokens(" -- ".join(word.upper() for word in words)), n).hashes.tolist() == plain
    inside = grams(tokens("before, " + " ".join(words) + "\nafter it"), n).hashes.tolist()
    assert inside[1 : len(plain) + 1] == plain
