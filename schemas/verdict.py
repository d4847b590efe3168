"""VERDICT: what a filter says about each sample of a part, row by row in the part's order.

`reason` null keeps the sample; a text drops it and names why, from the stage's closed list. Each stage adds its
evidence columns (the detected language and its confidence, the distance to a duplicate ...), so that a threshold can be
judged without running anything again.

A filter that may remove turns of a sample it keeps has TURNS among its evidence:

  turns          rounds (a question with its answer) that the sample had
  kept_turns     numbers of those that stay, from 0; null: all, or the sample is dropped
  removed_turns  the others, each with its reason; null where there is none. Of a sample of which no turn was left it
                 names all
"""

from __future__ import annotations

import pyarrow as pa

VERDICT = pa.schema([("sample_id", pa.string()), ("reason", pa.string())])

KEPT_TURNS = "kept_turns"
TURNS = pa.schema(
    [
        ("turns", pa.int32()),
        (KEPT_TURNS, pa.list_(pa.int32())),
        ("removed_turns", pa.list_(pa.struct([("turn", pa.int32()), ("reason", pa.string())]))),
    ]
)


def verdict_schema(evidence: pa.Schema) -> pa.Schema:
    """VERDICT plus a stage's evidence columns. Raises ValueError if the evidence names a VERDICT column again."""
    clash = set(evidence.names) & set(VERDICT.names)
    if clash:
        raise ValueError(f"evidence columns {sorted(clash)} are VERDICT's own names; rename them")
    return pa.schema([*VERDICT, *evidence])
