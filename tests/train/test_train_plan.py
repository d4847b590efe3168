"""The plan: every sample once an epoch, packs within bounds, and an order that never changes by accident."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data.draws import Batch, Shuffled
from train.data.index import Labels
from train.data.order import epoch_order
from train.data.packing import Packer, PlanError, deal
from train.data.plan import Plan

LENGTHS = st.lists(st.tuples(st.integers(1, 100), st.integers(0, 13)), min_size=1, max_size=80)


EPOCHS = 6


def make(
    lengths: list[tuple[int, int]], batch_size: int = 8, max_tokens: int = 100, seed: int = 0, unit: str = "samples"
) -> Plan:
    tokens, tiles = (np.array(column, np.int32) for column in zip(*lengths, strict=True))
    packer = Packer(tokens, tiles, max_tokens, token_cost=2.0, tile_cost=30.0)
    draws = Shuffled(tokens, tiles, seed, Batch(batch_size, unit), epochs=EPOCHS)
    return Plan(packer, draws, Labels(("a",), np.zeros(len(tokens), np.int32)))


def epoch(plan: Plan, number: int) -> list:
    """The steps of an epoch."""
    whole = plan.draws.steps_per_epoch
    return list(plan.steps(number * whole))[:whole]


@given(LENGTHS, st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**40))
def test_every_sample_is_used_exactly_once_an_epoch(lengths, batch_size, number, seed):
    steps = epoch(make(lengths, batch_size, seed=seed), number)
    used = [sample for packs in steps for pack in packs for sample in pack]
    assert sorted(used) == list(range(len(lengths)))
    sizes = [sum(map(len, packs)) for packs in steps]
    assert all(size == batch_size for size in sizes[:-1]) and sizes[-1] <= batch_size


@given(LENGTHS, st.integers(1, 40), st.integers(100, 300))
def test_no_pack_is_empty_or_exceeds_the_cap(lengths, batch_size, max_tokens):
    for packs in epoch(make(lengths, batch_size, max_tokens), 0):
        for pack in packs:
            assert pack and sum(lengths[sample][0] for sample in pack) <= max_tokens


@given(LENGTHS, st.integers(1, 9))
def test_starting_at_a_step_gives_the_rest_of_the_run(lengths, start):
    plan = make(lengths, batch_size=3)
    assert list(plan.steps(start)) == list(plan.steps())[start:]
    assert plan.step(plan.position(start)) == start


@given(LENGTHS)
def test_packing_does_not_decide_which_samples_make_a_step(lengths):
    narrow, wide = (epoch(make(lengths, max_tokens=cap), 2) for cap in (100, 1000))
    for one, other in zip(narrow, wide, strict=True):
        assert sorted(chain.from_iterable(one)) == sorted(chain.from_iterable(other))


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=60), st.integers(1, 60))
def test_costs_are_dealt_evenly(costs, k):
    k = min(k, len(costs))
    loads = [sum(costs[position] for position in pack) for pack in deal(np.array(costs), k)]
    # The greedy bound: the fullest pack was the emptiest before it took its last, so it exceeds the mean by one item.
    assert len(loads) == k
    assert max(loads) <= sum(costs) / k + max(costs) + 1e-6


def test_a_sample_longer_than_a_pack_is_refused_by_name():
    with pytest.raises(PlanError, match=r"sample 1 has 101 tokens.*at most 100.*raise it to at least 101"):
        make([(5, 0), (101, 2)])


def test_shards_without_samples_are_refused():
    with pytest.raises(PlanError, match="no sample"):
        Packer(np.array([], np.int32), np.array([], np.int32), 100, 1.0, 1.0)


def test_ten_values_of_the_order_are_pinned():
    """A change here changes what every config trains on: raise VERSION in packing.py and say so."""
    assert epoch_order(1000, seed=0, epoch=0)[:10].tolist() == [246, 138, 549, 756, 886, 452, 457, 218, 98, 847]
    assert epoch_order(1000, seed=7, epoch=3)[:10].tolist() == [594, 91, 936, 708, 648, 334, 216, 525, 718, 255]


def test_orders_of_epochs_and_seeds_differ():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_the_identity_moves_with_the_lengths_and_the_rules():
    lengths = [(5, 0), (7, 1), (9, 2)]
    plans = [make(lengths), make(lengths[::-1]), make(lengths, seed=1), make(lengths, 4), make(lengths, max_tokens=99)]
    assert len({plan.fingerprint() for plan in plans}) == len(plans)
    assert make(lengths).fingerprint() == make(lengths).fingerprint()


def test_the_steps_of_an_epoch_are_counted_once():
    """Every step asks for them, and of tens of millions of samples the sum takes longer than the step's draw."""

    class Summed(np.ndarray):
        sums = 0

        def sum(self, *given, **named):
            Summed.sums += 1
            return super().sum(*given, **named)

    tokens = np.full(50, 7, np.int32).view(Summed)
    draws = Shuffled(tokens, np.zeros(50, np.int32), 0, Batch(20, "tokens"), epochs=2)
    assert [draws.steps_per_epoch for _ in range(5)] == [18] * 5 and draws.total == 36
    assert Summed.sums == 1
