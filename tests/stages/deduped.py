"""Samples -> the verdicts of dedupe, by all of its functions and without a pipeline."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stages.duplicates.candidates import CANDIDATES, text_candidates
from stages.duplicates.choice import chosen, verdicts
from stages.duplicates.pairs import MEMBERS, PAIRS, found, member, pair_row
from stages.duplicates.params import DedupeParams
from stages.duplicates.sketch import sketch, sketches
from stages.duplicates.text_sketch import BANDS, text_bands
from stages.duplicates.verify import KINDS, Outcome, Verifier
from stages.filters.text_key import conversation_key


def deduped(
    *parts: pa.Table, params: DedupeParams | None = None, dropped: Collection[str] = (), buckets: int = 3
) -> pa.Table:
    """The verdicts of all parts; each is a source of its own. `dropped`: samples that another filter drops."""
    params = params or DedupeParams()
    drawn = [sketches(part, number, 0, number, params, buckets) for number, part in enumerate(parts)]
    rows = [row for table in drawn for row in table.to_pylist()]
    compared = [found([row for row in rows if row["bucket"] == n], params.match) for n in range(buckets)]
    near = near_texts(*parts, params=params, buckets=buckets)
    looked_at = decided(*parts, params=params, candidates=pa.concat_tables([one.candidates for one in compared]))
    pairs = pa.concat_tables([PAIRS.empty_table(), *(one.pairs for one in compared), near.pairs, looked_at.pairs])
    members = pa.concat_tables(
        [MEMBERS.empty_table(), *(one.members for one in compared), near.members, looked_at.members]
    )

    def gone(part: int) -> np.ndarray:
        return np.isin(parts[part]["sample_id"].to_pylist(), list(dropped))

    choice = chosen(pairs, members, gone, params)
    return pa.concat_tables([verdicts(part["sample_id"], _of(choice, n)) for n, part in enumerate(parts)])


class Near(NamedTuple):
    """Candidates, how each was decided, and the pairs that came of it."""

    candidates: pa.Table
    outcomes: list[Outcome]
    pairs: pa.Table
    members: pa.Table


def near_texts(*parts: pa.Table, params: DedupeParams, buckets: int = 1) -> Near:
    """The pairs of texts that are near and not equal."""
    bands = [text_bands(part, number, 0, params.text) for number, part in enumerate(parts)]
    every = pa.concat_tables([BANDS.empty_table(), *bands])
    bucket = every["key"].to_numpy() % np.uint64(buckets)
    found = [text_candidates(every.filter(pa.array(bucket == n)), params.text) for n in range(buckets)]
    candidates = pa.concat_tables([CANDIDATES.empty_table(), *(found if params.near_texts else ())])
    return decided(*parts, params=params, candidates=candidates)


def decided(*parts: pa.Table, params: DedupeParams, candidates: pa.Table) -> Near:
    """What the samples themselves say of candidates."""
    samples = [part.to_pylist() for part in parts]
    outcomes, pairs, members, verifier = [], [], [], Verifier(params)
    for one in candidates.to_pylist():
        left, right = ((one[f"{side}_part"], one[f"{side}_row"]) for side in ("left", "right"))
        mine = [samples[part][row] for part, row in (left, right)]
        outcomes.append(KINDS[one["kind"]].decide(verifier, (left, mine[0]), (right, mine[1])))
        if not outcomes[-1].why:
            keys = [conversation_key(sample["messages"]) for sample in mine]
            drawn = [sketch(s, k, *at, at[0]) for s, k, at in zip(mine, keys, (left, right), strict=True)]
            pairs.append(pair_row(drawn[0], drawn[1], False, outcomes[-1].distance, outcomes[-1].jaccard))
            members += map(member, drawn)
    return Near(candidates, outcomes, pa.Table.from_pylist(pairs, PAIRS), pa.Table.from_pylist(members, MEMBERS))


def _of(choice: pa.Table, part: int) -> pa.Table:
    return choice.filter(np.array(choice["part"].to_pylist(), np.int64) == part)


def told(verdict: pa.Table) -> dict[str, Sequence[object]]:
    """sample_id -> (reason, kept_id, distance)."""
    return {row["sample_id"]: (row["reason"], row["kept_id"], row["distance"]) for row in verdict.to_pylist()}
