"""Drop samples that say the same about the same picture; keep one of each, and say which.

Two samples are duplicates only if their conversations are equal after normalisation AND their images match one by one:
the same image with another question is another sample. Images match by their bytes (`duplicate`) or by sight
(`near_duplicate`: re-encoded, resized; see stages/filters/image_match.py). Of a cluster the sample with the most pixels
stays, then the one whose id sorts first, whatever the order of the parts.

Reads messages and image_info; sees all parts at once. Evidence: the kept sample's id, and the Hamming distance to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from stages.filters.image_match import Match, Pictures, apart, clusters, matches
from stages.filters.text_key import conversation_key
from stages.stage import Filter


@dataclass(frozen=True)
class DedupeParams:
    """When two pictures count as one."""

    match: Match = field(default_factory=Match)


REASONS = {
    "duplicate": "the same conversation about byte-identical images stands elsewhere",
    "near_duplicate": "the same conversation about the same pictures, re-encoded or resized, stands elsewhere",
}

EVIDENCE = pa.schema([("kept_id", pa.string()), ("distance", pa.int32())])


@dataclass
class _Row:
    """One sample as dedupe sees it; `kept` is the sample it duplicates."""

    sample_id: str
    infos: list[dict[str, Any]]
    reason: str | None = None
    kept: str | None = None
    distance: int | None = None

    @property
    def rank(self) -> tuple[int, str]:
        """Sorts the one to keep first."""
        return (-sum(info["width"] * info["height"] for info in self.infos), self.sample_id)


def judge(table: pa.Table, params: DedupeParams, loaded: None) -> tuple[list[str | None], pa.Table]:
    """Verdicts for all samples at once; `table` has sample_id, messages, image_info."""
    rows, groups = [], defaultdict(list)
    for item in table.select(["sample_id", "messages", "image_info"]).to_pylist():
        rows.append(_Row(item["sample_id"], item["image_info"]))
        groups[conversation_key(item["messages"])].append(rows[-1])
    for group in groups.values():
        if len(group) > 1:
            _near(_exact(group), params.match)
            _follow(group)
    evidence = pa.table([[row.kept for row in rows], [row.distance for row in rows]], schema=EVIDENCE)
    return [row.reason for row in rows], evidence


def _exact(group: Sequence[_Row]) -> list[_Row]:
    """Mark byte-identical copies; the rows that stay, best first."""
    first: dict[tuple[str, ...], _Row] = {}
    for row in sorted(group, key=lambda row: row.rank):
        kept = first.setdefault(tuple(info["sha256"] for info in row.infos), row)
        if kept is not row:
            _drop(row, kept, "duplicate", 0)
    return list(first.values())


def _near(rows: Sequence[_Row], match: Match) -> None:
    """Mark rows whose images all match by sight; `rows` come best first, and share the number of images."""
    if len(rows) < 2:
        return
    positions = [Pictures.of([row.infos[number] for row in rows]) for number in range(len(rows[0].infos))]
    kept = clusters(positions, match)
    (lost,) = np.nonzero(kept != np.arange(len(rows)))
    pairs = [(pictures.take(lost), pictures.take(kept[lost])) for pictures in positions]
    direct = matches([mine for mine, _ in pairs], [theirs for _, theirs in pairs], match)
    distances = np.max([apart(mine, theirs) for mine, theirs in pairs], axis=0)
    for row, number, is_direct, distance in zip(lost.tolist(), kept[lost].tolist(), direct, distances, strict=True):
        # None: it matches the kept one only through others of the cluster
        _drop(rows[row], rows[number], "near_duplicate", int(distance) if is_direct else None)


def _follow(group: Sequence[_Row]) -> None:
    """Where the original of a byte-identical copy is itself a near duplicate, name the one that stays."""
    dropped: dict[str | None, _Row] = {row.sample_id: row for row in group if row.reason == "near_duplicate"}
    for row in group:
        if row.kept in dropped:
            row.kept, row.distance = dropped[row.kept].kept, dropped[row.kept].distance


def _drop(row: _Row, kept: _Row, reason: str, distance: int | None) -> None:
    row.reason, row.kept, row.distance = reason, kept.sample_id, distance


DEDUPE = Filter(
    name="dedupe",
    version=1,
    params=DedupeParams,
    reasons=REASONS,
    columns=("messages", "image_info"),
    evidence=EVIDENCE,
    tells_of_kept=False,
    judge=judge,
    scope="all",
)
