"""The kept samples of a finished recipe, piece by piece, as rows of PUBLISHED: in the order of the parts.

Kept is what no filter and pretokenise itself dropped: its verdict of a sample has no reason. A piece is what is kept of
a row group of a part, so a part of any size takes little memory. Every verdict is compared with the samples that it
speaks of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import read, row_groups
from schemas.manifest import ManifestError
from schemas.published import EVIDENCE, LANGUAGE, PUBLISHED, with_evidence
from schemas.shard import COUNTS
from stages.filters.table import FILTERS
from stages.kept_turns import cut, kept_turns

_COPIED = ("sample_id", "source", "subset", "licence", "messages", "images", "scores", "declared_language")


@dataclass(frozen=True)
class Kept:
    """Where the kept samples of a recipe stand. `judges`: the folder of every filter that says something of them."""

    parts: Sequence[Part]
    shards: Path
    judges: dict[str, Path]
    detected: Path | None

    @classmethod
    def of(cls, last: Step, context: Context) -> Kept:
        folders = {judge.stage.name: context.out / judge.folder for judge in last.making("verdicts")}
        telling = {name: folder for name, folder in folders.items() if name in FILTERS and FILTERS[name].tells_of_kept}
        parts = parts_of(last.making("samples"), context)
        detected = next((folder for name, folder in telling.items() if LANGUAGE in FILTERS[name].evidence.names), None)
        return cls(parts, context.out / last.folder, telling, detected)

    @property
    def schema(self) -> pa.Schema:
        return with_evidence({name: FILTERS[name].evidence for name in self.judges})

    def pieces(self, number: int) -> Iterator[pa.Table]:
        """The kept rows of a part. Raises ManifestError where the verdicts are not those of its samples."""
        name, path = layout.verdict(number), self.parts[number].path
        verdict = read(self.shards / name)
        judged = {judge: read(folder / name) for judge, folder in self.judges.items()}
        languages = None if self.detected is None else read(self.detected / name, [LANGUAGE])[LANGUAGE]
        if pc.sum(pc.is_null(verdict["reason"])).as_py() in (0, None):
            return
        start = 0
        for group in row_groups(path, [*_COPIED, "image_info"]):
            mine = verdict.slice(start, group.num_rows)
            ids = group["sample_id"]
            if any(not t["sample_id"].slice(start, len(ids)).equals(ids) for t in (verdict, *judged.values())):
                raise ManifestError(
                    f"{self.shards / name}: doesn't speak of the samples of {path}; run its stage again"
                )
            found = group["declared_language"] if languages is None else languages.slice(start, group.num_rows)
            evidence = {judge: table.slice(start, group.num_rows) for judge, table in judged.items()}
            keep = pc.is_null(mine["reason"])
            start += group.num_rows
            yield self._rows(_cut(group, keep, evidence), mine, found, evidence).filter(keep).combine_chunks()
        if start != verdict.num_rows:
            raise ManifestError(f"{path}: {start:,} samples, and {verdict.num_rows:,} verdicts; run its stage again")

    def _rows(
        self, samples: pa.Table, verdict: pa.Table, language: pa.ChunkedArray, evidence: dict[str, pa.Table]
    ) -> pa.Table:
        columns = {name: samples[name] for name in _COPIED}
        columns["is_document"] = pa.array([_is_document(talk) for talk in _roles(samples["messages"])], pa.bool_())
        columns["image_info"] = _narrow(samples["image_info"].combine_chunks(), PUBLISHED.field("image_info").type)
        columns |= {LANGUAGE: language, **{name: verdict[name] for name in COUNTS}}
        if evidence:
            kinds = [_struct(table, FILTERS[name].evidence) for name, table in evidence.items()]
            columns[EVIDENCE] = pa.StructArray.from_arrays(kinds, names=list(evidence))
        return pa.table({name: columns[name] for name in self.schema.names}).cast(self.schema)


def _cut(samples: pa.Table, keep: pa.ChunkedArray, evidence: dict[str, pa.Table]) -> pa.Table:
    """The samples with the turns that the filters keep of the kept ones; the others are as they were."""
    kept = [
        turns if stays else None for turns, stays in zip(kept_turns(len(keep), evidence), keep.to_pylist(), strict=True)
    ]
    if all(turns is None for turns in kept):
        return samples
    names = ("messages", "images", "image_info")
    rows = [dict(cut(row, turns)) for row, turns in zip(samples.select(names).to_pylist(), kept, strict=True)]
    made = pa.Table.from_pylist(rows, samples.select(names).schema)
    return pa.table({name: made[name] if name in names else samples[name] for name in samples.column_names})


def _is_document(roles: list[str]) -> bool:
    """No other sample lacks a question: ingest rejects such conversations."""
    return roles == ["assistant"]


def _roles(messages: pa.ChunkedArray) -> list[list[str]]:
    turns = messages.combine_chunks()
    roles = turns.flatten().field("role").to_pylist()
    ends = pc.list_value_length(turns).to_pylist()
    found, first = [], 0
    for length in ends:
        found.append(roles[first : first + length])
        first += length
    return found


def _narrow(lists: pa.ListArray, kind: pa.DataType) -> pa.ListArray:
    """Lists of structs with some of their fields."""
    inner, names = lists.flatten(), [field.name for field in kind.value_type]
    offsets = pc.subtract(lists.offsets, lists.offsets[0])
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([inner.field(name) for name in names], names))


def _struct(table: pa.Table, schema: pa.Schema) -> pa.StructArray:
    return pa.StructArray.from_arrays([table[name].combine_chunks() for name in schema.names], fields=list(schema))
