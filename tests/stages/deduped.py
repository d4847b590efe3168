"""Samples -> the verdicts of dedupe, by all of its functions and without a pipeline."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa

from stages.duplicates.choice import chosen, verdicts
from stages.duplicates.pairs import MEMBERS, PAIRS, found
from stages.duplicates.params import DedupeParams
from stages.duplicates.sketch import sketches


def deduped(
    *parts: pa.Table, params: DedupeParams | None = None, dropped: Collection[str] = (), buckets: int = 3
) -> pa.Table:
    """The verdicts of all parts; each is a source of its own. `dropped`: samples that another filter drops."""
    params = params or DedupeParams()
    drawn = [sketches(part, number, 0, number, params, buckets) for number, part in enumerate(parts)]
    rows = [row for table in drawn for row in table.to_pylist()]
    compared = [found([row for row in rows if row["bucket"] == n], params.match) for n in range(buckets)]
    pairs = pa.concat_tables([PAIRS.empty_table(), *(one.pairs for one in compared)])
    members = pa.concat_tables([MEMBERS.empty_table(), *(one.members for one in compared)])

    def gone(part: int) -> np.ndarray:
        return np.isin(parts[part]["sample_id"].to_pylist(), list(dropped))

    choice = chosen(pairs, members, gone, params)
    return pa.concat_tables([verdicts(part["sample_id"], _of(choice, n)) for n, part in enumerate(parts)])


def _of(choice: pa.Table, part: int) -> pa.Table:
    return choice.filter(np.array(choice["part"].to_pylist(), np.int64) == part)


def told(verdict: pa.Table) -> dict[str, Sequence[object]]:
    """sample_id -> (reason, kept_id, distance)."""
    return {row["sample_id"]: (row["reason"], row["kept_id"], row["distance"]) for row in verdict.to_pylist()}
