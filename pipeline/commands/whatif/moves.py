"""What would be gained and lost, part by part: rows and tokens by source, and what each filter has to do with it.

The tokens of a kept sample are those that pretokenise counted. A sample that would be gained, or keep other turns, is
counted by the same function, from its text and the sizes of its images; so what pretokenise would then drop (as too
long) is known too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.commands.whatif.judges import Judges, Verdicts
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import layout
from pipeline.storage.commit import commit
from pipeline.storage.part_reader import read, rows_of
from schemas.manifest import ManifestError
from schemas.shard import COUNTS
from schemas.strict import RecipeError
from stages import census, shard_rows
from stages.chat import ChatFormat
from stages.kept_turns import Kept, cut, kept_turns
from stages.shard_rows import PretokeniseParams

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

IDS = pa.schema([("sample_id", pa.string()), ("source", pa.string()), ("before", pa.bool_()), ("after", pa.bool_())])


@dataclass
class Moves:
    """By source: rows `before`, `gained`, `lost`, `after`, `recut` (they stay, with other turns), and for each count
    its name with `_gained` or `_lost`. By filter: see `_of_filter`."""

    sources: dict[str, Counter[str]] = field(default_factory=dict)
    filters: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def all(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for amounts in self.sources.values():
            found.update(amounts)
        return found


class _Compared(NamedTuple):
    """The samples of a part: kept or not and their tokens by the name of the count, as it is and as it would be."""

    before: Mask
    after: Mask
    recut: Mask
    were: Mapping[str, Numbers]
    are: Mapping[str, Numbers]


def moves(judges: Judges, ids: Path | None = None) -> Moves:
    """Compare all parts; `ids`: the file in which every sample is to be named. Raises RecipeError for a bad place."""
    if ids is None:
        return _moves(judges, None)
    found = []

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, IDS) as writer:
            found.append(_moves(judges, writer))

    try:
        commit(ids, write)
    except OSError as error:
        raise RecipeError(f"--ids {ids}: can't be written ({error.strerror or error})") from None
    return found[0]


def _moves(judges: Judges, writer: pq.ParquetWriter | None) -> Moves:
    found = Moves({step.label: Counter() for step in judges.last.making("samples")})
    params, folder = judges.last.params, judges.context.out / judges.last.folder / layout.TOKENIZER
    chat = ChatFormat.load(folder, params.tokens, params.chat)
    for number, part in enumerate(parts_of(judges.last.making("samples"), judges.context)):
        were, would_be = judges.were(number), judges.would_be(number)
        own = read(judges.context.out / judges.last.folder / layout.verdict(number))
        for name, verdict in were.items():
            if not verdict["sample_id"].equals(own["sample_id"]):
                raise ManifestError(f"the verdicts of {name} don't speak of these samples row by row; run {name} again")
        one = _compared(part, own, were, would_be, chat, params)
        found.sources[part.source].update(_of_source(one))
        for name in (*judges.changed, *judges.following):
            found.filters.setdefault(name, Counter()).update(_of_filter(name, were, would_be, one))
        if writer is not None:
            columns = [own["sample_id"], [part.source] * own.num_rows, one.before, one.after]
            writer.write_table(pa.table(columns, schema=IDS))
    return found


def _compared(
    part: Part, own: pa.Table, were: Verdicts, would_be: Verdicts, chat: ChatFormat, params: PretokeniseParams
) -> _Compared:
    """`own`: the verdicts of pretokenise, with the tokens of what it kept."""
    before, rows = _kept(own), own.num_rows
    old, new = (_all_keep(verdicts, rows) for verdicts in (were, would_be))
    turns, others = kept_turns(rows, were), kept_turns(rows, would_be)
    other = np.array([one != two for one, two in zip(turns, others, strict=True)], bool)
    recount = new & (~old | other)
    counted = {name: pc.fill_null(own[name], 0).to_numpy().astype(np.int64) * before for name in COUNTS}
    after, are = before & new, {name: numbers * new for name, numbers in counted.items()}
    for row, amounts in _counted(part, np.flatnonzero(recount).tolist(), others, chat, params):
        after[row] = amounts is not None
        for name in COUNTS:
            are[name][row] = amounts[name] if amounts else 0
    return _Compared(before, after, before & after & other, counted, are)


def _kept(verdict: pa.Table) -> Mask:
    found: Mask = pc.is_null(verdict["reason"]).to_numpy().copy()
    return found


def _all_keep(verdicts: Verdicts, rows: int) -> Mask:
    found: Mask = np.logical_and.reduce([np.ones(rows, bool), *map(_kept, verdicts.values())])
    return found


def _counted(
    part: Part, rows: list[int], turns: list[Kept], chat: ChatFormat, params: PretokeniseParams
) -> Iterator[tuple[int, dict[str, int] | None]]:
    """The tokens of some samples with the turns that stay; None: pretokenise drops it."""
    tables = rows_of(part.path, rows, census.COLUMNS)
    samples: Iterator[dict[str, Any]] = (row for table in tables for row in table.to_pylist())
    for number, row in zip(rows, samples, strict=True):
        try:
            made = shard_rows.rows_of(cut(census.sized(row), turns[number]), chat, params)[0]
        except shard_rows.Dropped:
            yield number, None
        else:
            yield number, {name: sum(one[name] for one in made) for name in COUNTS}


def _of_source(one: _Compared) -> Counter[str]:
    gained, lost = one.after & ~one.before, one.before & ~one.after
    rows = {"before": one.before, "gained": gained, "lost": lost, "after": one.after, "recut": one.recut}
    found = Counter({name: int(mask.sum()) for name, mask in rows.items()})
    for name in COUNTS:
        more = one.are[name] - one.were[name]
        found[f"{name}_gained"], found[f"{name}_lost"] = int(more[more > 0].sum()), int(-more[more < 0].sum())
        found[f"{name}_before"], found[f"{name}_after"] = int(one.were[name].sum()), int(one.are[name].sum())
    return found


def _of_filter(name: str, were: Verdicts, would_be: Verdicts, one: _Compared) -> Counter[str]:
    """drops, keeps  whose verdict is another: it drops them now, it keeps them now
    lost, gained     of these whom this filter alone decides: kept in the end before, kept in the end after
    of_gained        it drops them now, and before a filter that it follows did"""
    rows, names = len(one.before), list(were)
    was, now = _kept(were[name]), _kept(would_be[name])
    earlier = {key: were[key] for key in names[: names.index(name)]}
    others_were, others = (
        _all_keep({key: verdict for key, verdict in verdicts.items() if key != name}, rows)
        for verdicts in (were, would_be)
    )
    found = {
        "drops": was & ~now,
        "keeps": ~was & now,
        "lost": was & ~now & one.before & others,
        "gained": ~was & now & one.after & others_were,
        "of_gained": ~now & others & ~_all_keep(earlier, rows),
    }
    return Counter({key: int(mask.sum()) for key, mask in found.items()})
