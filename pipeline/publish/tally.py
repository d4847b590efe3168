"""What rows hold, counted for the card: licences by source, languages, images, tokens, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from schemas.published import LANGUAGE
from schemas.shard import COUNTS
from schemas.strict import brief


@dataclass(frozen=True)
class Tally:
    """`num_bytes`: of the rows in memory, which is what the Hub calls a dataset's size; `licences`: rows by source and
    licence; `languages`: rows by language, "" where there is none."""

    rows: int = 0
    num_bytes: int = 0
    images: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    licences: dict[str, dict[str, int]] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pa.Table) -> Tally:
        return cls(
            rows.num_rows,
            rows.nbytes,
            pc.sum(pc.list_value_length(rows["images"])).as_py() or 0,
            {name: pc.sum(rows[name]).as_py() or 0 for name in COUNTS},
            {
                source: _counted(rows.filter(pc.equal(rows["source"], source))["licence"])
                for source in rows["source"].unique().to_pylist()
            },
            _counted(rows[LANGUAGE]),
        )

    def __add__(self, other: Tally) -> Tally:
        sources = dict.fromkeys([*self.licences, *other.licences])
        return Tally(
            self.rows + other.rows,
            self.num_bytes + other.num_bytes,
            self.images + other.images,
            _sum(self.totals, other.totals),
            {name: _sum(self.licences.get(name, {}), other.licences.get(name, {})) for name in sources},
            _sum(self.languages, other.languages),
        )

    def by_source(self) -> dict[str, int]:
        return {source: sum(found.values()) for source, found in self.licences.items()}


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in column.value_counts().to_pylist():
        found[brief(one["values"] or "")] += one["counts"]
    return dict(sorted(found.items()))


def _sum(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in sorted({*left, *right})}
