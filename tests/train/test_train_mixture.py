"""Mixtures keep their shares at every step; passes are whole; a run resumes anywhere; nonsense is refused by name."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_mixtures import by_source, corpus, planned

from train.data.packing import PlanError
from train.data.realised import draws

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=8)
WEIGHTS = st.lists(st.floats(0.01, 10), min_size=8, max_size=8)
BATCHES = st.sampled_from([{"batch_size": 1}, {"batch_size": 7}, {"batch_size": 32}, {"batch_tokens": 300}])
UNITS = {"samples": None, "tokens": "num_tokens", "targets": "num_target_tokens"}


def named(weights: list[float], lengths: list[int]) -> dict[str, float]:
    return dict(zip("abcdefgh", weights[: len(lengths)], strict=False))


@given(LENGTHS, WEIGHTS, BATCHES, st.integers(0, 99))
def test_shares_of_samples_are_exact_to_a_sample_at_every_step(lengths, weights, batch, seed):
    plan = planned(corpus(lengths, seed), seed, steps=40, mixture_weights=named(weights, lengths), **batch)
    drawn = by_source(plan, np.ones(sum(lengths))).cumsum(0)
    share = np.array(weights[: len(lengths)]) / sum(weights[: len(lengths)])
    assert len(drawn) == plan.total == 40
    assert np.abs(drawn - drawn.sum(1, keepdims=True) * share).max() < 1 + 1e-9


@given(LENGTHS, WEIGHTS, BATCHES, st.sampled_from(["tokens", "targets"]), st.integers(0, 99))
def test_shares_of_tokens_are_exact_to_the_tokens_of_a_sample(lengths, weights, batch, unit, seed):
    """Of a source to one sample's of its own; of all together to another one."""
    of = corpus(lengths, seed)
    plan = planned(of, seed, steps=40, mixture_weights=named(weights, lengths), mixture_unit=unit, **batch)
    size = getattr(of, UNITS[unit])
    drawn = by_source(plan, size).cumsum(0)
    share = np.array(weights[: len(lengths)]) / sum(weights[: len(lengths)])
    assert np.abs(drawn - drawn.sum(1, keepdims=True) * share).max() < 2 * size.max()


@given(LENGTHS, WEIGHTS, BATCHES, st.sampled_from(sorted(UNITS)), st.integers(0, 99))
def test_a_pass_over_a_source_has_each_of_its_samples_once(lengths, weights, batch, unit, seed):
    of = corpus(lengths, seed)
    plan = planned(of, seed, steps=30, mixture_weights=named(weights, lengths), mixture_unit=unit, **batch)
    seen: Counter[int] = Counter(np.concatenate(list(plan.draws.steps(0))).tolist())
    for source in range(len(lengths)):
        times = [seen[sample] for sample in np.flatnonzero(of.source.codes == source)]
        assert max(times) - min(times) <= 1


@given(LENGTHS, WEIGHTS, BATCHES, st.sampled_from(sorted(UNITS)), st.integers(0, 30))
def test_begun_at_any_step_it_gives_the_rest(lengths, weights, batch, unit, start):
    keys = {"schedule": [(12, "single"), (18, "mixed")], "mixture_unit": unit, **batch}
    plan = planned(corpus(lengths), mixture_weights=named(weights, lengths), **keys)
    assert list(plan.steps(start)) == list(plan.steps())[start:]


@given(LENGTHS, BATCHES, st.sampled_from([1, 2, 3, 4, 8]), st.booleans())
def test_the_samples_of_a_step_are_the_same_for_any_number_of_ranks(lengths, batch, ranks, plain):
    of = corpus(lengths)
    plan = planned(of, steps=9, plain=plain, **batch)
    for packs, dealt in zip(plan.steps(), plan.dealt(ranks), strict=True):
        assert len(dealt) == ranks and len({len(each) for each in dealt}) == 1
        flat = [pack for each in dealt for pack in each]
        assert sorted(x for pack in flat for x in pack) == sorted(x for pack in packs for x in pack)
        assert all(of.num_tokens[pack].sum() <= 200 for pack in flat)
        assert sum(not pack for pack in flat) < len(flat)


@given(
    LENGTHS, st.integers(1, 3), st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]), min_size=8, max_size=8), BATCHES
)
def test_repeats_are_exact(lengths, epochs, repeats, batch):
    repeats[0] = 1.0
    of = corpus(lengths)
    plan = planned(of, epochs=epochs, mixture_repeats=named(repeats, lengths), **batch)
    drawn = np.bincount(of.source.codes, draws(plan)[0])
    wanted = [round(repeat * length * epochs) for repeat, length in zip(repeats, lengths, strict=False)]
    assert drawn.tolist() == wanted
    sizes = [len(samples) for samples in plan.draws.steps(0)]
    assert len(sizes) == plan.total and min(sizes) > 0
    if "batch_size" in batch:
        assert set(sizes[:-1]) <= {batch["batch_size"]}
    taken = by_source(plan, np.ones(sum(lengths))).cumsum(0)
    assert np.abs(taken - taken.sum(1, keepdims=True) * wanted / sum(wanted)).max() < 1 + 1e-6


def test_a_source_that_ends_a_sample_early_holds_nobody_back():
    """A draw at its very share is not taken ahead, and who is at its limit does not move the clock."""
    repeats = {"a": 0.0, "b": 2.5, "c": 0.0, "d": 1.0, "e": 1.0, "f": 0.3}
    plan = planned(corpus([111, 424, 5, 14, 9, 7]), epochs=3, batch_size=3, mixture_repeats=repeats)
    taken = by_source(plan, np.ones(570)).cumsum(0)
    wanted = np.array([0, 3180, 0, 42, 27, 6])
    assert np.abs(taken - taken.sum(1, keepdims=True) * wanted / 3255).max() < 1 and (taken[-1] == wanted).all()


@given(st.lists(st.integers(1, 40), max_size=7), WEIGHTS, st.floats(1.0, 3.0), st.integers(0, 9))
def test_no_source_passes_its_cap_and_the_others_keep_their_proportions(lengths, weights, cap, seed):
    lengths = [*lengths, 8]
    of = corpus(lengths, seed)
    steps = sum(lengths) // 8
    plan = planned(of, steps=steps, batch_size=8, mixture_weights=named(weights, lengths), mixture_caps=cap)
    drawn = by_source(plan, np.ones(sum(lengths)))
    assert drawn.sum() == steps * 8
    assert (drawn.sum(0) <= np.array(lengths) * cap).all()
    shares = plan.draws.shares.weights
    free = shares * steps * 8 < np.floor(np.array(lengths) * cap) - 1e-6
    ratios = (shares / np.array(weights[: len(lengths)]))[free]
    assert ratios.max(initial=0) - ratios.min(initial=9e9) < 1e-6
    gone = np.abs(drawn.cumsum(0) - drawn.cumsum(0).sum(1, keepdims=True) * shares)
    assert gone.max() < 1 + len(lengths)  # a cap is whole samples, so its source may end one early


@given(LENGTHS, WEIGHTS, st.sampled_from([1, 7, 32]), st.integers(0, 9))
def test_single_steps_have_one_source_and_shares_are_exact_to_a_step(lengths, weights, batch, seed):
    of = corpus(lengths, seed)
    plan = planned(of, seed, schedule=[(40, "single")], batch_size=batch, mixture_weights=named(weights, lengths))
    drawn = by_source(plan, np.ones(sum(lengths)))
    assert ((drawn > 0).sum(1) == 1).all() and (drawn.sum(1) == batch).all()
    share = np.array(weights[: len(lengths)]) / sum(weights[: len(lengths)])
    ideal = np.arange(1, 41)[:, None] * share * batch
    assert np.abs(drawn.cumsum(0) - ideal).max() < batch * (1 + 1e-6)


def test_a_schedule_is_single_steps_then_mixed_ones():
    plan = planned(corpus([30, 60, 30]), schedule=[(10, "single"), (20, "mixed")], batch_size=12)
    drawn = by_source(plan, np.ones(120))
    assert len(drawn) == plan.total == 30
    assert (drawn[:10].max(1) == 12).all() and drawn[10:].tolist() == [[3, 6, 3]] * 20


def test_steps_of_tokens_pass_no_budget():
    of = corpus([30, 60, 30])
    for unit in UNITS:
        plan = planned(of, steps=50, batch_tokens=400, mixture_unit=unit)
        reached = np.cumsum([of.num_tokens[samples].sum() for samples in plan.draws.steps(0)])
        behind = 400 * np.arange(1, 51) - reached
        assert behind.min() >= 0 and behind.max() < 3 * of.num_tokens.max()


def test_a_small_mixture_is_pinned():
    """A change here changes what every mixture trains on: raise VERSION in packing.py and say so."""
    plan = planned(corpus([4, 8, 12]), seed=5, steps=4, batch_size=6, mixture_weights={"a": 1, "b": 1, "c": 1})
    assert [samples.tolist() for samples in plan.draws.steps(0)] == PINNED
    again = planned(corpus([4, 8, 12]), seed=6, steps=4, batch_size=6, mixture_weights={"a": 1, "b": 1, "c": 1})
    assert [samples.tolist() for samples in again.draws.steps(0)] != PINNED


PINNED = [[5, 9, 0, 21, 23, 3], [17, 6, 20, 13, 15, 18], [17, 6, 22, 1, 16, 19], [5, 9, 2, 7, 4, 8]]


def test_a_mixture_by_subset_names_source_and_subset():
    plan = planned(corpus([6, 6]), steps=5, batch_size=4, mixture_by="subset")
    assert plan.labels.names == ("a/x", "a/y", "b/x", "b/y")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mixture_weights": {"a": 1}}, r"mixture\.weights: the source 'b' of the shards has none; name it"),
        ({"mixture_weights": {"a": 1, "b": 1, "zz": 1}}, r"mixture\.weights\.zz: unknown key; known keys: a, b"),
        ({"mixture_caps": {"z": 1}}, r"mixture\.caps\.z: unknown key"),
        ({"mixture_weights": {"a": 0, "b": 0}}, "every source is left out"),
        ({"mixture_caps": 1, "steps": 100}, r"caps: the run draws 800 .* the caps allow 20; raise them"),
        ({"batch_size": None, "batch_tokens": 59}, r"batch_tokens: 59, the longest sample has 60; raise it"),
    ],
)
def test_what_can_not_be_mixed_is_refused_by_name(keys, message):
    with pytest.raises(PlanError, match=message):
        planned(corpus([10, 10]), **{"steps": 9, "batch_size": 8, **keys})


def test_a_source_without_targets_has_no_share_of_them():
    of = corpus([5, 5])
    of.num_target_tokens[of.source.codes == 1] = 0
    with pytest.raises(PlanError, match="'b' has no targets, so no share of them"):
        planned(of, steps=5, batch_size=2, mixture_unit="targets")
    assert planned(of, steps=5, batch_size=2, mixture_unit="targets", mixture_weights={"a": 1, "b": 0}).total == 5


def test_another_mixture_is_another_plan_by_name():
    of = corpus([10, 20])
    base = planned(of, steps=9, batch_size=8).identity()
    for changes, key in (
        ({"mixture_weights": {"a": 1, "b": 1}}, "mixture"),
        ({"seed": 1}, "seed"),
        ({"batch_size": 4}, "batch_samples"),
        ({"steps": 8}, "schedule"),
    ):
        other = planned(of, **{"steps": 9, "batch_size": 8, **changes}).identity()
        assert [name for name in base if base[name] != other.get(name)] == [key]


def test_a_million_samples_are_planned_in_little_memory():
    of = corpus([600_000, 300_000, 100_000])
    tracemalloc.start()
    plan = planned(of, steps=3, batch_size=256, mixture_weights={"a": 1, "b": 1, "c": 2}, mixture_unit="tokens")
    assert len(list(plan.draws.steps(0))) == 3
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 1_000_000  # bytes a sample
