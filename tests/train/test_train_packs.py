"""Packs dealt by hand: costliest first, always to the cheapest pack, as few packs as will do."""

from __future__ import annotations

import numpy as np
import pytest
from made_mixtures import corpus, planned

from train.data import packing
from train.data.draws import Batch, Shuffled
from train.data.index import Labels
from train.data.order import epoch_order
from train.data.packing import Packer, PlanError, deal
from train.data.plan import Plan


def plan(tokens: list[int], tiles: list[int] | None = None, batch_size: int = 4, seed: int = 0, **changes) -> Plan:
    columns = np.array(tokens, np.int32), np.array(tiles or [0] * len(tokens), np.int32)
    packer = Packer(*columns, **{"max_tokens": 20, "token_cost": 2.0, "tile_cost": 30.0, **changes})
    draws = Shuffled(*columns, seed, Batch(batch_size, "samples"), epochs=1)
    return Plan(packer, draws, Labels(("a",), np.zeros(len(tokens), np.int32)))


def packs(tokens: list[int], tiles: list[int] | None = None, **changes) -> list[list[int]]:
    return plan(tokens, tiles, **changes).packer.packs(np.arange(len(tokens)))


@pytest.mark.parametrize(
    ("costs", "k", "wanted"),
    [
        ([5, 4, 3, 3, 3], 2, [[0, 3], [1, 2, 4]]),
        ([3, 3, 3, 4, 5], 2, [[1, 4], [0, 2, 3]]),
        ([1, 1, 1, 1], 2, [[0, 2], [1, 3]]),
        ([1, 2], 3, [[1], [0]]),
        ([7], 1, [[0]]),
        ([2, 9, 2, 2, 2], 3, [[1], [0, 3], [2, 4]]),
    ],
)
def test_the_costliest_goes_first_to_the_cheapest_pack(costs, k, wanted):
    assert deal(np.array(costs, float), k) == wanted


def test_of_equal_costs_the_first_goes_first():
    assert deal(np.ones(100), 2) == [list(range(0, 100, 2)), list(range(1, 100, 2))]


def test_tiles_weigh_by_their_cost_and_tokens_by_theirs():
    """Costs 110, 20, 20, 110: the two with tiles part. Were tokens all that counted, 0 and 2 would go together."""
    assert packs([10, 10, 10, 10], [3, 0, 0, 3]) == [[0, 1], [2, 3]]
    assert packs([10, 10, 10, 10], [3, 0, 0, 3], tile_cost=0.0) == [[0, 2], [1, 3]]


def test_there_are_no_more_packs_than_tokens_ask_for():
    assert packs([10, 10, 10, 10]) == [[0, 2], [1, 3]]  # 40 tokens fill two packs of 20 exactly
    assert packs([20]) == [[0]] and packs([5, 15]) == [[0, 1]]
    assert len(packs([10, 10, 10, 11])) == 3


def test_one_pack_more_is_tried_while_one_is_too_full():
    assert packs([12, 12, 12]) == [[0], [1], [2]]  # 36 tokens would fit into two, three samples of 12 don't
    assert packs([20, 20, 20, 1]) == [[0], [1], [2], [3]]
    assert packs([11, 11, 11, 1]) == [[0, 3], [1], [2]]
    # by their costs two packs would hold 21 tokens and three 30
    assert packs([18, 3, 12, 1], [1, 2, 1, 2], token_cost=0.0) == [[1], [3], [0], [2]]


def test_packs_name_samples_and_not_places_in_the_step():
    of = plan([5, 5, 5, 5, 5, 5])
    assert of.packer.packs(np.array([4, 1, 3])) == [[4, 1, 3]]
    assert all(type(sample) is int for pack in of.packer.packs(np.array([4, 1])) for sample in pack)


@pytest.mark.parametrize(("samples", "wanted"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_an_epoch_ends_with_what_is_left(samples, wanted):
    of = plan([1] * samples)
    assert of.draws.steps_per_epoch == of.total == wanted == len(list(of.steps()))


def test_the_longest_sample_that_fits_is_alone_and_a_longer_one_is_refused():
    assert packs([20, 1]) == [[0], [1]]
    with pytest.raises(PlanError, match="sample 1 has 21 tokens"):
        plan([20, 21, 21])


def test_the_identity_is_of_values_and_not_of_how_they_are_held():
    of = plan([5, 7], [1, 2])
    columns = of.packer.num_tokens.astype(np.int64), of.packer.num_tiles.astype(">i8")
    wide = Plan(Packer(*columns, 20, 2.0, 30.0), of.draws, of.labels)
    assert wide.fingerprint() == of.fingerprint()
    others = [plan([5, 7], [2, 1]), plan([7, 5], [1, 2]), plan([1, 2], [5, 7])]
    others += [plan([5, 7], [1, 2], token_cost=3.0), plan([5, 7], [1, 2], tile_cost=3.0)]
    assert len({plan.fingerprint() for plan in (of, *others)}) == 6


def test_other_rules_of_packing_make_another_plan(monkeypatch):
    """A checkpoint in the middle of an epoch must not go on with packs dealt otherwise."""
    before = plan([5, 7]).fingerprint()
    monkeypatch.setattr(packing, "VERSION", packing.VERSION + 1)
    assert plan([5, 7]).fingerprint() != before


def test_an_order_belongs_to_its_epoch_and_its_seed():
    """Epoch 12 of seed 1 is not epoch 2 of seed 11."""
    assert epoch_order(30, 1, 12).tolist() != epoch_order(30, 11, 2).tolist()


@pytest.mark.parametrize(
    ("ranks", "wanted"),
    [
        (1, [[[0, 5], [1, 4], [2, 3]]]),
        (2, [[[1], [2, 5]], [[0], [3, 4]]]),
        (4, [[[2, 5]], [[3, 4]], [[0]], [[1]]]),
    ],
)
def test_packs_are_a_multiple_of_the_ranks_and_each_has_equally_many(ranks, wanted):
    """Three packs for one rank, four for two and four; two ranks have costs 42 and 42."""
    of = plan([10, 9, 8, 6, 5, 4], max_tokens=16)
    dealt = of.packer.ranks(np.arange(6), ranks)
    assert dealt == wanted


def test_where_ranks_outnumber_samples_some_packs_are_empty():
    assert plan([10, 9]).packer.ranks(np.arange(2), 4) == [[[0]], [[1]], [[]], [[]]]


def test_a_rank_that_has_its_packs_gets_no_more():
    """By costs alone the first would have one pack, and the other three."""
    of = plan([10, 10, 10, 10], [9, 0, 0, 0], max_tokens=10)
    assert of.packer.ranks(np.arange(4), 2) == [[[0], [3]], [[1], [2]]]


def test_the_identity_is_of_each_samples_source_too():
    of = corpus([3, 3])
    before = planned(of, steps=2, batch_size=2).identity()
    of.source = Labels(of.source.names, of.source.codes[::-1].copy())
    after = planned(of, steps=2, batch_size=2).identity()
    assert before["samples"] != after["samples"] and before["mixture"] == after["mixture"]
