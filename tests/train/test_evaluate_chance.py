"""Intervals and tests: known numbers, and that they say true things about made-up scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.evaluate import chance


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (81, 263, 0.2553, 0.3662)],
)
def test_wilson(right, count, low, high):
    """The last is Newcombe's example (1998), the others from any table."""
    assert chance.wilson(right, count) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_the_bootstrap_agrees_with_the_normal_interval_where_there_is_much():
    scores = list(np.random.default_rng(0).choice([0.0, 0.3, 0.6, 1.0], 4000))
    found = chance.interval(scores, graded=True)
    half = 1.96 * np.std(scores) / math.sqrt(len(scores))
    assert found.method == "bootstrap"
    assert found.low == pytest.approx(np.mean(scores) - half, abs=0.001)
    assert found.high == pytest.approx(np.mean(scores) + half, abs=0.001)
    assert chance.interval(scores, graded=True) == found
    assert chance.interval([], graded=True) is None


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60), st.booleans())
def test_an_interval_holds_the_score(scores, graded):
    found = chance.interval(scores, graded)
    assert 0 <= found.low <= sum(scores) / len(scores) <= found.high <= 1


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (10, 0, 2 / 1024), (8, 2, 2 * 56 / 1024), (3, 3, 1.0)],
)
def test_mcnemar(better, worse, p):
    assert chance.mcnemar(better, worse) == chance.mcnemar(worse, better) == pytest.approx(p)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_sum_of_binomials(better, worse):
    changed = better + worse
    tail = sum(math.comb(changed, k) for k in range(min(better, worse) + 1))
    assert chance.mcnemar(better, worse) == pytest.approx(min(1.0, 2 * tail / 2**changed))


def test_mcnemar_of_very_many():
    assert chance.mcnemar(6000, 5000) < 1e-20 and 0.3 < chance.mcnemar(5050, 4950) < 0.35


def test_sign_flips_of_few_are_exact():
    assert chance.sign_flips([1.0] * 5) == chance.sign_flips([-1.0] * 5) == 2 / 32
    assert chance.sign_flips([0.5, -0.5]) == 1.0
    assert chance.sign_flips([0.1, 0.2, 0.4]) == 2 / 8
    assert chance.sign_flips([]) == 1.0


def test_sign_flips_of_many_agree_with_mcnemar():
    """Of differences that are all 1 or -1 both ask the same."""
    found = chance.sign_flips([1.0] * 30 + [-1.0] * 18)
    assert found == pytest.approx(chance.mcnemar(30, 18), abs=0.02)
    assert found == chance.sign_flips([1.0] * 30 + [-1.0] * 18)


def test_two_runs_question_by_question():
    found = chance.paired([0, 0, 1, 1, 0], [1, 1, 1, 0, 1], graded=False)
    assert (found.better, found.worse, found.difference, found.test) == (3, 1, 0.4, "mcnemar")
    assert found.p == pytest.approx(2 * (1 + 4) / 16) and found.low < 0.4 < found.high
    same = chance.paired([0.5] * 3, [0.5] * 3, graded=True)
    assert (same.difference, same.p, same.low, same.high) == (0, 1, 0, 0)


def test_the_tests_find_about_as_much_in_noise_as_they_say():
    """Of 200 pairs of equally good runs about 5 % have p < 0.05 (an exact test: not more)."""
    rng, found = np.random.default_rng(1), {True: 0, False: 0}
    for _ in range(200):
        first, second = rng.integers(0, 2, (2, 60)).astype(float).tolist()
        found[False] += chance.paired(first, second, graded=False).p < 0.05
    assert found[False] <= 16
