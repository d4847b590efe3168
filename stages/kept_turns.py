"""A sample cut to the rounds that a filter keeps of it: what pretokenise, a census and a publication see.

A round that is removed takes its images along, unless the next round that stays shows none of its own: that one speaks
of what was shown before, and gets the images that went with the rounds between. So no image is shown twice, and no
question loses what it is about. The sample keeps its id and all that is known of it as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from schemas.verdict import KEPT_TURNS
from stages.rounds import Row, dealt, joined, with_images

Kept = Sequence[int] | None
"""Numbers of the rounds that stay, from 0 and rising; None: all."""


def kept_turns(rows: int, verdicts: Mapping[str, pa.Table]) -> list[Kept]:
    """What stays of each sample: the rounds that every filter keeps."""
    kept: list[Kept] = [None] * rows
    for verdict in verdicts.values():
        if KEPT_TURNS in verdict.column_names:
            found = verdict[KEPT_TURNS].to_pylist()
            kept = [_both(one, other) for one, other in zip(kept, found, strict=True)]
    return kept


def cut(row: Row, kept: Kept) -> Row:
    """A sample's row with these rounds alone. Raises ValueError for what no filter could have said of it."""
    if kept is None:
        return row
    head, rounds = dealt(row)
    if not kept or list(kept) != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < len(rounds):
        name = row.get("sample_id", "a sample")
        raise ValueError(f"{name}: the verdict keeps rounds {list(kept)} of {len(rounds)}; run its filter again")
    left, removed = [], list[Row]()
    for number, one in enumerate(rounds):
        if number not in kept:
            removed.append(one)
            continue
        if not one["images"] and any(other["images"] for other in removed):
            one = with_images(one, removed)
        left.append(one)
        removed = []
    return joined(head, left)


def _both(one: Kept, other: Kept) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return sorted({*one} & {*other})
