"""The ledger of turns: of the turns that a filter saw, how many are kept, and how many went for which reason.

A turn of a sample that is dropped went for the sample's reason; where no turn was left of it, each for its own.
Turns in = kept + dropped by reason: rows are counted by the same `Counts`, which refuse what does not add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from schemas.manifest import Counts
from schemas.verdict import KEPT_TURNS, TURNS

COLUMNS = ("reason", *TURNS.names)


def removes_turns(schema: pa.Schema) -> bool:
    """Whether verdicts of this schema say what becomes of turns."""
    return KEPT_TURNS in schema.names


def turn_counts(verdict: pa.Table) -> Counts:
    """The ledger of the turns of verdicts. Raises ManifestError where turns are lost."""
    kept, dropped = 0, Counter[str]()
    rows = verdict.select(list(COLUMNS)).to_pylist()
    for row in rows:
        removed = row["removed_turns"] or []
        dropped.update(one["reason"] for one in removed)
        if row["reason"] is not None and not removed:
            dropped[row["reason"]] += row["turns"]
        if row["reason"] is None:
            kept += row["turns"] if row[KEPT_TURNS] is None else len(row[KEPT_TURNS])
    named = {reason: count for reason, count in sorted(dropped.items()) if count}
    return Counts(sum(row["turns"] for row in rows), kept, named)


def check_turns(verdict: pa.Table, declared: Iterable[str], stage: str) -> None:
    """Raise ValueError unless each turn of a sample is either kept or removed, for a declared reason."""
    reasons = set(declared)
    for row in verdict.select(["sample_id", *COLUMNS]).to_pylist():
        if not _adds_up(row, reasons):
            told = {name: row[name] for name in COLUMNS}
            raise ValueError(f"{stage}: {row['sample_id']}: its turns are neither kept nor removed, or both: {told}")


def _adds_up(row: Mapping[str, Any], reasons: set[str]) -> bool:
    kept, removed = row[KEPT_TURNS], row["removed_turns"]
    if kept is None and removed is None:
        return True
    gone = [one["turn"] for one in removed or []]
    stay = kept or []
    parted = sorted([*stay, *gone]) == list(range(row["turns"])) and stay == sorted(stay)
    known = all(one["reason"] in reasons for one in removed or [])
    return parted and known and bool(gone) and bool(stay) == (row["reason"] is None)
