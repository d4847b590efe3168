"""A window of passes answers as the whole stream of a source would, wherever it stands."""

from __future__ import annotations

import numpy as np
import pytest

from train.data import order
from train.data.streams import Streams

SIZES = np.array([3, 0, 5, 1, 2, 2, 7, 1], np.int32)
MEMBERS = [np.array([0, 2, 4, 6], np.int32), np.array([1, 3, 5], np.int32)]


def whole(source: int, passes: int) -> np.ndarray:
    """So many passes over a source."""
    orders = [order.pass_order(len(MEMBERS[source]), 9, number, "ab"[source]) for number in range(passes)]
    return np.concatenate([MEMBERS[source][each] for each in orders])


@pytest.mark.parametrize("sizes", [None, SIZES])
def test_it_answers_as_the_whole_stream_would(sizes):
    streams = Streams("ab", MEMBERS, 9, (sizes, None), np.array([3, 4]))
    long = [whole(source, 40) for source in (0, 1)]
    sums = [np.cumsum(np.ones(len(x)) if sizes is None else sizes[x]).astype(int) for x in long]
    for taken in range(0, 90, 3):
        counts = np.array([taken, taken // 2])
        streams.forget(counts)
        ahead = counts + np.array([4, 3])
        drawn = streams.between(counts, ahead)
        assert drawn.tolist() == [*long[0][counts[0] : ahead[0]], *long[1][counts[1] : ahead[1]]]
        told = [int(sums[source][ahead[source] - 1]) for source in (0, 1)]
        assert streams.sums(0, ahead).tolist() == told
        reached = streams.reached(0, np.array(told) + 0.5)
        assert reached.tolist() == [np.searchsorted(sums[source], told[source], "right") for source in (0, 1)]


@pytest.mark.parametrize("sizes", [None, SIZES])
def test_below_a_window_is_less_than_the_window(sizes):
    """A source that is ahead of its share at the end of a pass has not reached what it has drawn."""
    streams = Streams("ab", MEMBERS, 9, (sizes, None), np.array([3, 4]))
    streams.forget(np.array([8, 6]))
    units = streams.sums(0, np.array([8, 6]))
    assert (streams.reached(0, units + 0.0) >= [8, 6]).all()
    assert (streams.reached(0, units - 1.0) < [8, 6]).all()
