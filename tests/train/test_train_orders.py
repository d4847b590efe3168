"""Orders of an epoch: grouped as published samplers group, cut by tokens, and the plain one as it always was."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_mixtures import corpus, planned

from train.data.order import by_length, by_modality

ORDERS = st.integers(1, 200).flatmap(lambda count: st.permutations(range(count)).map(np.array))


def published_length_order(order, lengths, batch):
    """From the description of HF's sampler, one thing after the other."""
    run = (min(len(order) // (batch * 4), 50) or 1) * batch
    parts = [sorted(order[i : i + run].tolist(), key=lambda x: -lengths[x]) for i in range(0, len(order), run)]
    firsts = [lengths[part[0]] for part in parts]
    at = firsts.index(max(firsts))
    parts[0][0], parts[at][0] = parts[at][0], parts[0][0]
    return [x for part in parts for x in part]


@given(ORDERS, st.integers(1, 9), st.integers(0, 9))
def test_grouping_by_length_is_the_published_one(order, batch, seed):
    lengths = np.random.default_rng(seed).integers(1, 50, len(order)).astype(np.int32)
    assert by_length(order, lengths, batch).tolist() == published_length_order(order, lengths, batch)


@given(ORDERS, st.integers(1, 9), st.integers(0, 9))
def test_grouping_by_modality_mixes_at_most_the_leftovers(order, batch, seed):
    has_image = np.random.default_rng(seed).random(len(order)) < 0.7
    found = by_modality(order, has_image, batch, seed, 0)
    assert sorted(found.tolist()) == list(range(len(order)))
    if has_image.all() or not has_image.any():
        assert found.tolist() == order.tolist()
        return
    counts = [int((has_image == kind).sum()) for kind in (True, False)]
    pure = sum((count - 1) // batch for count in counts)
    batches = [found[i : i + batch] for i in range(0, pure * batch, batch)]
    assert all(len(set(has_image[each].tolist())) == 1 for each in batches)
    left = found[pure * batch :].tolist()
    assert left == sorted(left) and 2 <= len(left) <= 2 * batch


def test_batches_of_one_modality_come_in_any_order():
    has_image = np.arange(400) % 2 == 0
    found = by_modality(np.random.default_rng(0).permutation(400), has_image, 10, 0, 0)
    kinds = [bool(has_image[each]) for each in found[:380:10]]
    assert sum(one != other for one, other in pairwise(kinds)) > 8
    assert (
        by_modality(np.arange(400), has_image, 10, 0, 1).tolist()
        != by_modality(np.arange(400), has_image, 10, 0, 0).tolist()
    )


@pytest.mark.parametrize("group_by", ["length", "modality"])
def test_a_grouped_run_has_every_sample_once_an_epoch_and_resumes(group_by):
    plan = planned(corpus([100]), plain=True, epochs=3, batch_size=8, group_by=group_by)
    steps = list(plan.draws.steps(0))
    for epoch in range(3):
        assert sorted(np.concatenate(steps[epoch * 13 : epoch * 13 + 13]).tolist()) == list(range(100))
    assert [x.tolist() for x in plan.draws.steps(20)] == [x.tolist() for x in steps[20:]]
    assert steps[0].tolist() != planned(corpus([100]), plain=True, epochs=3, batch_size=8)


@given(st.integers(1, 120), st.integers(60, 700), st.integers(0, 9))
def test_steps_of_tokens_have_every_sample_once_and_none_is_empty(count, budget, seed):
    of = corpus([count], seed)
    plan = planned(of, plain=True, epochs=2, batch_tokens=budget)
    steps = list(plan.draws.steps(0))
    assert len(steps) == plan.total and min(map(len, steps)) > 0
    half = steps[: plan.draws.steps_per_epoch]
    assert sorted(np.concatenate(half).tolist()) == list(range(count))
    reached = np.cumsum([of.num_tokens[samples].sum() for samples in half])
    behind = budget * np.arange(1, len(half) + 1) - reached
    assert behind.min() >= 0 and (behind[:-1] < 60).all()


@pytest.mark.parametrize("steps", [1, 12, 13, 14, 40])
def test_a_run_of_so_many_steps_ends_there(steps):
    of = corpus([100])
    plan = planned(of, plain=True, steps=steps, batch_size=8)
    longer = planned(of, plain=True, epochs=9, batch_size=8)
    assert plan.total == steps
    assert list(plan.steps()) == list(islice(longer.steps(), steps))


def test_a_plain_plan_is_pinned():
    """A change here changes what the quickstart trains on: raise VERSION in packing.py and say so."""
    of = corpus([12])
    of.num_tokens, of.num_tiles = np.arange(1, 13, dtype=np.int32) * 5, np.arange(12, dtype=np.int32) % 4
    plan = planned(of, seed=1, plain=True, epochs=2, batch_size=5, max_tokens_per_pack=80)
    assert list(plan.steps()) == [
        [[7, 4], [10], [6, 3]],
        [[11], [0, 9], [8, 5]],
        [[2, 1]],
        [[11], [2, 10], [3, 9]],
        [[4, 0, 7], [8, 6]],
        [[1, 5]],
    ]
