"""Rows come in groups that a worker's memory can hold: at most so many rows, at most so many bytes, none lost."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import stage
from stages.stage import grouped

Sizes = list[int | None]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "GROUP_ROWS", 4)
    monkeypatch.setattr(stage, "GROUP_BYTES", 100)


def groups(sizes: Sizes) -> list[Sizes]:
    return list(grouped(sizes, lambda size: size))


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([], [[]]),
        ([None, None], [[None, None]]),
        ([1] * 4, [[1] * 4]),
        ([1] * 5, [[1] * 4, [1]]),
        ([1] * 9, [[1] * 4, [1] * 4, [1]]),
        ([60, 40], [[60, 40]]),
        ([60, 41], [[60], [41]]),
        ([60, 41, 59, 1], [[60], [41, 59], [1]]),
        ([500], [[500]]),
        ([500, 1], [[500], [1]]),
        ([1, 500, 1], [[1], [500], [1]]),
        ([0] * 5, [[0] * 4, [0]]),
        # rows that take no room stand with those before them, and don't fill a group
        ([1, None, None, 1, None, None, 1, 1, None, 1], [[1, None, None, 1, None, None, 1, 1, None], [1]]),
        ([None] * 9 + [500], [[None] * 9 + [500]]),
        ([60, None, 41], [[60, None], [41]]),
    ],
)
def test_a_group_ends_before_the_row_that_would_be_too_much(sizes: Sizes, wanted: list[Sizes]) -> None:
    assert groups(sizes) == wanted


@given(st.lists(st.none() | st.integers(0, 130)))
def test_no_row_is_lost_or_moved_and_every_group_could_take_no_more(sizes: Sizes) -> None:
    found = groups(sizes)
    assert list(chain.from_iterable(found)) == sizes
    held = [[size for size in group if size is not None] for group in found]
    for one, following in zip(held, [*held[1:], None], strict=True):
        assert len(one) <= 4 and (sum(one) <= 100 or len(one) == 1)
        if following is not None:
            assert len(one) == 4 or sum(one) + following[0] > 100
