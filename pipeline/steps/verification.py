"""The last phase of `compare`: what was found of a few parts, each pair once, and its candidates decided.

A task has the pairs whose later sample lies in its parts. Its candidates are decided a slice at a time, each by the
function of its kind (stages/duplicates/verify.py), from the samples themselves: of every part only the row groups that
hold one are read. A sample has a bounded number of candidates that come before it, so a task has a bounded number too,
and what it holds of samples is bounded by the slice's weight.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.graph.task import Done, Job
from pipeline.steps.samples import Part
from pipeline.storage import exchange, layout
from pipeline.storage.part_reader import rows_of
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts
from stages.duplicates.candidates import CANDIDATES
from stages.duplicates.near_misses import MISSES, miss, rank, smallest
from stages.duplicates.pairs import MEMBERS, PAIRS, member, pair_row
from stages.duplicates.params import DedupeParams
from stages.duplicates.sketch import COLUMNS, sketch
from stages.duplicates.text_sketch import first_bits
from stages.duplicates.verify import KINDS, Place, Verifier
from stages.filters.text_key import conversation_key

_SLICE, _WEIGHT = 1024, 1 << 22  # candidates that are decided at a time, and numbers of 8 bytes that they may hold

_PAIR = ("left_part", "left_row", "right_part", "right_row")


@dataclass(frozen=True, kw_only=True)
class DecideJob(Job):
    """Parts, by the source and the number of rows of each; and what was found of them, in so many files.

    `places`: of every source that has parts the number of the first, its own, and its folder: any part can be a left
    side.
    """

    folder: str
    files: int
    owner: int
    owners: int
    rows: tuple[tuple[str, int], ...]
    places: tuple[tuple[int, int, str], ...]
    params: DedupeParams


def width(parts: Sequence[Part], rows: int) -> int:
    """Of how many neighbouring parts a task is, so that they have about so many rows."""
    return max(1, len(parts) * rows // max(1, sum(part.rows for part in parts)))


def split(
    step: Step, context: Context, parts: Sequence[Part], files: int, folder: str, rows: int
) -> Iterator[DecideJob]:
    """A job for every few parts."""
    wide = width(parts, rows)
    places = tuple(_places(parts, list(context.recipe.data.sources)))
    for owner, start in enumerate(range(0, len(parts), wide)):
        share = parts[start : start + wide]
        yield DecideJob(
            amount=sum(part.rows for part in share),
            parts=len(share),
            folder=str(context.out / step.folder / folder),
            files=files,
            owner=owner,
            owners=math.ceil(len(parts) / wide),
            rows=tuple((part.source, part.rows) for part in share),
            places=places,
            params=step.params,
        )


def decide(job: DecideJob, writer: PartWriter) -> Done:
    """The pairs, members and near misses of its parts."""
    folder, mine = Path(job.folder), (job.files, job.owner, job.owners)
    pairs, members, misses, candidates = (
        exchange.read(folder, kind, *mine, schema)
        for kind, schema in (("pairs", PAIRS), ("members", MEMBERS), ("misses", MISSES), ("candidates", CANDIDATES))
    )
    more = [_decided(job, some) for some in _slices(_once(candidates))]
    pairs = _once(pa.concat_tables([pairs, *(one[0] for one in more)]))
    members = _once(pa.concat_tables([members, *(one[1] for one in more)]), ("part", "row"))
    misses = smallest([misses, *(one[2] for one in more)])
    for kind, table in (("pairs", pairs), ("members", members), ("misses", misses)):
        writer.write(f"{kind}-{writer.number:05d}.parquet", table.schema, [table])
    counts: dict[str, Counts] = {}
    for source, rows in job.rows:
        counts[source] = counts.get(source, Counts()) + Counts(rows, rows)
    return Done(counts)


def _decided(job: DecideJob, candidates: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """PAIRS, MEMBERS and MISSES of a few candidates."""
    listed = candidates.to_pylist()
    ends: list[list[Place]] = [[(c[f"{side}_part"], c[f"{side}_row"]) for c in listed] for side in ("left", "right")]
    columns = {name for candidate in listed for name in KINDS[candidate["kind"]].columns}
    samples = dict(_samples(job, sorted({*ends[0], *ends[1]}), [*COLUMNS, *sorted(columns - set(COLUMNS))]))
    rows = {place: _sketched(job, place, sample) for place, sample in samples.items()}
    verifier, pairs, misses, members = Verifier(job.params), [], [], dict[Place, dict[str, Any]]()
    for candidate, left, right in zip(listed, *ends, strict=True):
        found = KINDS[candidate["kind"]].decide(verifier, (left, samples[left]), (right, samples[right]))
        if found.why:
            at = int(rank(*(np.array([first_bits(rows[place]["content"])]) for place in (left, right)))[0])
            misses.append(miss(rows[left], rows[right], found.why, found.distance, found.jaccard, at))
        else:
            pairs.append(pair_row(rows[left], rows[right], False, found.distance, found.jaccard))
            members |= {place: member(rows[place]) for place in (left, right)}
    return (
        pa.Table.from_pylist(pairs, PAIRS),
        pa.Table.from_pylist(list(members.values()), MEMBERS),
        smallest([pa.Table.from_pylist(misses, MISSES)]),
    )


def _samples(job: DecideJob, places: Iterable[Place], columns: Sequence[str]) -> Iterator[tuple[Place, dict[str, Any]]]:
    wanted: dict[int, list[int]] = {}
    for part, row in places:
        wanted.setdefault(part, []).append(row)
    for part, rows in wanted.items():
        tables = rows_of(_place(job, part)[1], rows, columns)
        for row, sample in zip(rows, (s for table in tables for s in table.to_pylist()), strict=True):
            yield (part, row), sample


def _sketched(job: DecideJob, place: Place, sample: dict[str, Any]) -> dict[str, Any]:
    return sketch(sample, conversation_key(sample["messages"]), *place, _place(job, place[0])[0])


def _place(job: DecideJob, part: int) -> tuple[int, str]:
    """The number of a part's source, and its file."""
    first, source, folder = job.places[bisect.bisect_right(job.places, part, key=lambda place: place[0]) - 1]
    return source, str(Path(folder) / layout.part(part - first))


def _places(parts: Sequence[Part], sources: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Parts of a source lie in one folder, under the numbers from 0 on."""
    number = 0
    for source, some in itertools.groupby(parts, key=lambda part: part.source):
        paths = [Path(part.path) for part in some]
        if [path.name for path in paths] != [layout.part(n) for n in range(len(paths))]:
            raise ValueError(f"{paths[0].parent}: the parts are not numbered from 0 on")
        yield number, sources.index(source), str(paths[0].parent)
        number += len(paths)


def _once(table: pa.Table, key: Sequence[str] = _PAIR) -> pa.Table:
    """In the order of the key, each once: several buckets may have found the same."""
    columns = [table[name].to_numpy() for name in key]
    order = np.lexsort(columns[::-1])
    fresh = np.ones(len(order), bool)
    fresh[1:] = np.logical_or.reduce([column[order][1:] != column[order][:-1] for column in columns])
    return table.take(pa.array(order[fresh]))


def _slices(candidates: pa.Table) -> Iterator[pa.Table]:
    start = weight = 0
    for number, more in enumerate(candidates["weight"].to_pylist()):
        if number > start and (number - start == _SLICE or weight + more > _WEIGHT):
            yield candidates.slice(start, number - start)
            start, weight = number, 0
        weight += more
    if start < candidates.num_rows:
        yield candidates.slice(start)
