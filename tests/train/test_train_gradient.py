"""The gradient of a step is that of the mean over its target tokens, however it is cut into packs and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from train.distributed.gradient import accumulate


class Sums(nn.Module):
    """The losses of a pack are of its two values with a shared weight and, where it has pictures, of a second one."""

    def __init__(self) -> None:
        super().__init__()
        self.text = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.tower = nn.Parameter(torch.tensor([3.0]))
        self.unused = nn.Parameter(torch.tensor([4.0]))

    def forward(self, pack):
        losses = pack.values * self.text
        return torch.cat([losses, self.tower.square()]) if pack.pictures else losses


def pack(*values: float, targets: int, pictures: bool = False) -> SimpleNamespace:
    samples = (SimpleNamespace(targets=targets),)
    return SimpleNamespace(values=torch.tensor(values), samples=samples, pictures=pictures)


PACKS = [pack(1.0, 2.0, targets=3), pack(10.0, 20.0, targets=1, pictures=True), pack(100.0, 0.0, targets=4)]


@pytest.mark.parametrize("threads", [1, 3])
def test_loss_and_gradients_are_means_over_the_targets_of_all_packs(threads):
    model = Sums()
    with ThreadPoolExecutor(threads) as pool:
        loss, losses = accumulate(model, PACKS, pool)
    assert [each.tolist() for each in losses] == [[1, 4], [10, 40, 9], [100, 0]]
    assert loss == pytest.approx((1 + 4 + 10 + 40 + 9 + 100) / 8)
    assert model.text.grad.tolist() == [111 / 8, 22 / 8]
    assert model.tower.grad.tolist() == [6 / 8]  # from the one pack that has pictures
    assert model.unused.grad is None


def test_a_step_begins_without_the_gradients_of_the_last():
    model = Sums()
    with ThreadPoolExecutor(1) as pool:
        accumulate(model, PACKS, pool)
        accumulate(model, PACKS[:1], pool)
    assert model.text.grad.tolist() == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert model.tower.grad is None  # it must not be stepped by the last step's


def test_a_step_without_targets_is_no_division_by_zero():
    model = Sums()
    with ThreadPoolExecutor(1) as pool:
        assert accumulate(model, [pack(1.0, 2.0, targets=0)], pool)[0] == 5
    assert model.text.grad.tolist() == [1, 2]


def test_any_number_of_threads_adds_in_the_order_of_the_packs():
    """In single precision 1e8 + 1 - 1e8 depends on the order; packs that end first must not be added first."""
    many = [pack(value, 0.0, targets=1) for value in (1e8, 1.0, -1e8, 3.0, 1e8, -1e8, 7.0)]
    found = []
    for threads in (1, 2, 5):
        model = Sums()
        with ThreadPoolExecutor(threads) as pool:
            loss, _ = accumulate(model, many, pool)
        found.append((loss, model.text.grad.tolist()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_thousand_equal_packs_are_one(dtype):
    """In bfloat16, rounded to the nearest, the sum of 1 / 1024 ends at a quarter."""
    model = Sums().to(dtype)
    many = [SimpleNamespace(values=torch.ones(2, dtype=dtype), samples=[SimpleNamespace(targets=1)], pictures=False)]
    with ThreadPoolExecutor(2) as pool:
        accumulate(model, 1024 * many, pool)
    assert model.text.grad.dtype == dtype and model.text.grad.tolist() == [1, 1]
