"""The verdicts of a part: its samples against the bars.

The evidence says for every counted sample its draw, and for one that is left out the first rule that did it: the group,
what there was `of` it when the rule came, what should `stay`, and the `bar`: lower draws of the group stay. So for any
other number of a rule it can be told which samples would move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.verdict import verdict_schema
from stages.mixture.draw import Cell, cells

REASONS = {
    "over_cap": "its group has more than the recipe takes of each",
    "over_limit": "its group has more than the recipe takes of it, or all together are more than it takes",
    "over_share": "its group would have more than its share of all that stays",
}

EVIDENCE = pa.schema(
    [
        ("draw", pa.string()),
        ("group", pa.string()),
        ("of", pa.int64()),
        ("stay", pa.int64()),
        ("bar", pa.string()),
        ("tokens", pa.int32()),
    ]
)
VERDICT = verdict_schema(EVIDENCE)


def verdicts(sample_ids: pa.ChunkedArray, drawn: pa.Table, source: str, bars: pa.Table, tokens: bool) -> pa.Table:
    """VERDICT rows of a part, of its DRAWN rows. `tokens`: whether the amounts are such."""
    if drawn.num_rows != len(sample_ids):
        raise ValueError(f"{drawn.num_rows:,} samples were drawn, the part has {len(sample_ids):,}")
    amount, draw = drawn["amount"].to_numpy(), drawn["draw"].to_numpy()
    own, found = cells(drawn, source)
    rules = bars.to_pylist()
    rule = _first(amount > 0, draw, drawn["tie"].to_numpy(), own, found, rules)
    told: list[dict[str, Any]] = [_told(rules[number]) if number >= 0 else {} for number in rule]
    left_out = rule >= 0
    columns = {
        "sample_id": sample_ids.combine_chunks(),
        **{name: [one.get(name) for one in told] for name in ("reason", "group", "of", "stay", "bar")},
        "draw": [_shown(number) if counted else None for number, counted in zip(draw, amount > 0, strict=True)],
        "tokens": pa.array(amount, pa.int32(), mask=~left_out if tokens else np.ones(len(amount), bool)),
    }
    return pa.table({name: columns[name] for name in VERDICT.names}, VERDICT)


def _first(
    alive: np.ndarray,
    draw: np.ndarray,
    tie: np.ndarray,
    own: np.ndarray,
    found: Sequence[Cell],
    rules: Sequence[dict[str, Any]],
) -> np.ndarray:
    """The number of the first bar that leaves each sample out; -1 where none does."""
    number_of = {cell: number for number, cell in enumerate(found)}
    rule = np.full(len(draw), -1, np.int64)
    for number, bar in enumerate(rules):
        cell = number_of.get(Cell(*(bar[name] for name in Cell._fields)))
        if cell is not None:
            above = (draw > bar["draw"]) | ((draw == bar["draw"]) & (tie >= bar["tie"]))
            rule[alive & (rule < 0) & (own == cell) & above] = number
    return rule


def _told(bar: dict[str, Any]) -> dict[str, Any]:
    return {**{name: bar[name] for name in ("reason", "group", "of", "stay")}, "bar": _shown(bar["draw"])}


def _shown(draw: int) -> str:
    return f"{int(draw):016x}"
