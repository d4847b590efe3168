"""What least ratings cost is what the filter would drop, rating by rating and turn by turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.sample import SCORES, TURN_SCORES
from stages.filters.rules.decide import decide
from stages.filters.rules.limits import QualityParams, TurnRules
from stages.filters.rules.measure import measured
from stages.rating_costs import THRESHOLDS, Cost, Costs, count
from tests.stages.pictures import talk

RATING = st.one_of(st.none(), st.integers(0, 5))
ROWS = st.lists(st.tuples(RATING, st.lists(RATING, min_size=1, max_size=4)), max_size=8)


def table(rows: list[tuple[Any, list[Any]]]) -> pa.Table:
    """Samples rated as `x_min` and, turn by turn, as `x_ratings`; a row without any rating has neither."""
    scores = [[] if value is None else [{"name": "x_min", "value": value}] for value, _ in rows]
    turns = [[{"name": "x_ratings", "values": values}] for _, values in rows]
    return pa.table({"scores": pa.array(scores, SCORES), "turn_scores": pa.array(turns, TURN_SCORES)})


@given(ROWS, st.sampled_from(THRESHOLDS))
def test_rows_and_turns_below_a_threshold_are_those_that_the_filter_takes(rows: Any, least: int) -> None:
    costs: Costs = {}
    count(costs, table(rows), [None] * len(rows))
    turns = [
        [turn for n in range(len(values)) for turn in (("user", f"{n}?"), ("assistant", "A."))] for _, values in rows
    ]
    infos = pa.array([[] for _ in rows], pa.list_(pa.struct([("width", pa.int32())])))
    messages = pa.table({"messages": [talk(*one) for one in turns], "image_info": infos})
    evidence = measured(messages, [])
    of_rows = decide(evidence, table(rows), QualityParams(min_scores={"x_min": least}))
    dropped = sum(reason == "low_rating" for reason in of_rows.reasons)
    removing = QualityParams(turns=TurnRules(min_ratings={"x_ratings": least}, remove="all"))
    removed = [one or [] for one in decide(evidence, table(rows), removing).removed]
    gone = sum(one["reason"] == "low_turn_rating" for some in removed for one in some)
    place = THRESHOLDS.index(least)
    assert costs.get(("rows", "x_min"), Cost()).below[place] == dropped
    assert costs.get(("turns", "x_ratings"), Cost()).below[place] == gone


def test_turns_that_are_removed_already_cost_nothing() -> None:
    costs: Costs = {}
    count(costs, table([(None, [1, 2, 5]), (None, [1, 1])]), [[1, 2], None])
    assert costs == {("turns", "x_ratings"): Cost(4, [0, 2, 3, 3, 3])}


def test_another_scale_is_no_rating() -> None:
    for values, whole in (([1.0, 5.0, np.nan], True), ([0.31], False), ([6.0], False), ([-1.0], False)):
        cost = Cost()
        cost.add(np.array(values))
        assert cost.whole == whole
