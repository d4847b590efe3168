"""The steps that follow a position are the plan's, in order, each with the position after it; one is made ahead."""

from __future__ import annotations

from itertools import chain, islice

import pytest

from train.data import loader
from train.data.draws import Batch, Shuffled
from train.data.packing import Packer
from train.data.plan import Plan, Position
from train.data.shards import Shards


class Watched(Shards):
    """Shards that remember which samples were read."""

    def sample(self, index):
        self.__dict__.setdefault("read", []).append(index)
        return super().sample(index)


@pytest.fixture
def opened(shards):
    return Watched(shards)


@pytest.fixture
def plan(opened) -> Plan:
    """60 samples make four steps, the last of 6 samples."""
    columns = opened.num_tokens, opened.num_tiles
    return Plan(Packer(*columns, 400, 1.0, 1.0), Shuffled(*columns, 3, Batch(18, "samples"), epochs=2), opened.source)


def test_the_steps_are_the_plans_with_the_position_after_each(opened, plan):
    found = list(loader.steps(opened, plan, Position(0, 0)))
    assert [step.after for step in found] == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]
    assert [step.counts.samples for step in found] == [18, 18, 18, 6] * 2
    packs = list(plan.steps())
    assert max(map(len, packs)) > 1
    for step, wanted in zip(found, packs, strict=True):
        lengths = [[opened.num_tokens[sample] for sample in pack] for pack in wanted]
        assert [pack.sample_ends for pack in step.packs] == [[0, *_sums(pack)] for pack in lengths]
    assert opened.read == list(chain.from_iterable(chain.from_iterable(packs)))


def _sums(lengths: list[int]) -> list[int]:
    return [sum(lengths[: number + 1]) for number in range(len(lengths))]


@pytest.mark.parametrize("done", range(9))
def test_begun_anywhere_it_gives_the_rest(opened, plan, done):
    start = Position(*divmod(done, 4))
    found = list(loader.steps(opened, plan, start))
    assert [step.after for step in found] == [divmod(number, 4) for number in range(done + 1, 9)]
    wanted = list(plan.steps())[done:]
    assert opened.__dict__.get("read", []) == list(chain.from_iterable(chain.from_iterable(wanted)))


def test_one_step_is_prepared_ahead_and_no_more(opened, plan):
    """Memory holds the step in work and the next one, however fast the disk is."""
    steps = loader.steps(opened, plan, Position(0, 0))
    for number, _ in enumerate(islice(steps, 3), start=1):
        taken = list(chain.from_iterable(chain.from_iterable(islice(plan.steps(), number + 1))))
        assert len(opened.read) <= len(taken)
        assert set(opened.read) <= set(taken)
    steps.close()
    assert sorted(opened.read) == list(range(60))  # the fourth step was being made while the third was in use


def test_what_goes_wrong_ahead_is_raised_at_its_step(opened, plan, monkeypatch):
    bad = list(plan.steps())[2][0][0]

    def sample(index):
        if index == bad:
            raise RuntimeError("damaged")
        return Watched.sample(opened, index)

    monkeypatch.setattr(opened, "sample", sample)
    steps = loader.steps(opened, plan, Position(0, 0))
    assert [next(steps).after, next(steps).after] == [(0, 1), (0, 2)]
    with pytest.raises(RuntimeError, match="damaged"):
        next(steps)
