"""Tokens, n-grams and MinHash bands: the same everywhere, and as likely to meet as the theory says."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.duplicates import minhash
from stages.filters.text_key import normalise


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("the quick brown fox", 4),
        ("the quick, brown fox.", 6),  # a sign is a token
        ("don't x=a+b", 8),
        ("日本語の文章", 6),
        ("PyTorchで学習", 4),
        ("สวัสดี", 6),
        ("नमस्ते दुनिया", 2),  # vowel signs belong to the word
        ("안녕하세요 세계", 2),  # Korean has spaces
        ("", 0),
        (" \n ", 0),
    ],
)
def test_a_token_is_a_word_or_a_character_of_a_script_without_spaces(text: str, number: int) -> None:
    assert len(minhash.tokens(text)) == number


@given(st.text(max_size=30), st.text(max_size=30))
def test_tokens_depend_on_the_token_alone(left: str, right: str) -> None:
    left, right = normalise(left), normalise(right)
    both = minhash.tokens(f"{left} {right}").tolist()
    assert both == minhash.tokens(left).tolist() + minhash.tokens(right).tolist()


def test_words_of_one_letter_each_or_in_another_order_are_other_tokens() -> None:
    words = ["a", "b", "ab", "ba", "aa", "aba", "aab"]
    assert len({int(minhash.tokens(word)[0]) for word in words}) == len(words)


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 6))
def test_ngrams_are_those_of_the_tokens(values: list[int], n: int) -> None:
    hashes = minhash.mixed(np.array(values, np.uint64))
    wanted = {tuple(values[at : at + n]) for at in range(len(values) - n + 1)}
    found = minhash.ngrams(hashes, n)
    assert len(found) == len(wanted) and sorted(found) == found.tolist()


def test_jaccard_is_shared_of_all() -> None:
    sets = [np.array(values, np.uint64) for values in ([1, 2, 3], [2, 3, 4], [], [1, 2, 3])]
    assert minhash.jaccard(sets[0], sets[1]) == 0.5
    assert minhash.jaccard(sets[0], sets[3]) == minhash.jaccard(sets[2], sets[2]) == 1
    assert minhash.jaccard(sets[0], sets[2]) == 0


@pytest.mark.parametrize("similarity", [0.6, 0.8, 0.9])
def test_bands_meet_as_often_as_the_similarity_says(similarity: float) -> None:
    rng, met, pairs, size = np.random.default_rng(1), 0, 300, 200
    shared = round(2 * size * similarity / (1 + similarity))
    for _ in range(pairs):
        values = rng.integers(0, 2**63, 2 * size, dtype=np.uint64)
        left, right = values[:size], values[size - shared : 2 * size - shared]
        sides = minhash.bands(np.stack([minhash.signature(np.sort(side), 200) for side in (left, right)]), 20)
        met += bool((sides[0] == sides[1]).any())
    likely = 1 - (1 - similarity**10) ** 20
    assert abs(met / pairs - likely) < 0.1


def test_hashes_are_the_same_in_every_process_and_on_every_machine() -> None:
    script = (
        "from stages.duplicates.minhash import *; g = ngrams(tokens('golden words, of this 日本 kind'), 5);"
        "b = bands(signature(g, 200)[None], 20)[0]; print([hex(int(v)) for v in (g[0], b[0], b[19])])"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {"['0x40a89bb25e801bf9', '0xbcc1d971ba9e5013', '0x5cacbe320706057c']"}
