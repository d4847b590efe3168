"""What samples come to under model recipes: rows, tokens, targets and tiles, without an image in reach.

The same `rows_of` that pretokenise writes shards by counts here, from messages and from (width, height), so the numbers
are those of the shards that a run would make. A sample is in = kept + dropped by reason, per source and language. What
a filter drops is counted too, under the filter's reason: what the filter costs, in rows and tokens. What the model
recipe drops (`too_long`, `no_target`, ...) has a number of samples and no tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.shard import COUNTS
from stages.chat import ChatFormat
from stages.kept_turns import cut, kept_turns
from stages.pretokenise import REASONS, first_drop
from stages.shard_rows import Dropped, PretokeniseParams, rows_of
from stages.stage import check_reasons

# Of SAMPLE, as parquet names its leaves: neither images nor what describes them beyond their size
COLUMNS = (
    *("sample_id", "source", "messages", "declared_language"),
    *("image_info.list.element.width", "image_info.list.element.height"),
)

# What a census counts, unless it estimates from a table
FROM = ("ingest", "headers")

AMOUNTS = ("samples", "rows", *COUNTS)
Amount = Counter[str]
"""So many samples, the rows of the shards that they give, and the five counts of those."""


class Place(NamedTuple):
    """Where a sample counts; no language where nothing says one."""

    source: str
    language: str | None


@dataclass(frozen=True)
class Model:
    """A model recipe at work. `verdicts`: filter name -> VERDICT rows of the samples at hand, in the filters' order."""

    chat: ChatFormat
    params: PretokeniseParams
    verdicts: Mapping[str, pa.Table] = field(default_factory=dict)


@dataclass
class Group:
    """The samples of one source and language: what is kept, and what is dropped by (filter, reason); the filter is ""
    where the model recipe drops it."""

    kept: Amount = field(default_factory=Counter)
    dropped: dict[tuple[str, str], Amount] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return self.kept["samples"] + sum(amount["samples"] for amount in self.dropped.values())

    def drop(self, why: tuple[str, str], amount: Amount) -> None:
        self.dropped.setdefault(why, Counter()).update(amount)


@dataclass
class Tally:
    """Groups of samples, and how many of the kept rows have so many tokens."""

    groups: dict[Place, Group] = field(default_factory=dict)
    lengths: Counter[int] = field(default_factory=Counter)

    @property
    def samples(self) -> int:
        return sum(group.samples for group in self.groups.values())

    @property
    def kept(self) -> Amount:
        """All that is kept."""
        return total(group.kept for group in self.groups.values())

    @property
    def dropped(self) -> dict[tuple[str, str], Amount]:
        """All that is dropped, by (filter, reason)."""
        every = Group()
        for group in self.groups.values():
            for why, amount in group.dropped.items():
                every.drop(why, amount)
        return dict(sorted(every.dropped.items()))

    def group(self, place: Place) -> Group:
        return self.groups.setdefault(place, Group())

    def add(self, other: Tally) -> None:
        """Take in what another has counted; the order changes nothing."""
        self.lengths.update(other.lengths)
        for place, found in other.groups.items():
            mine = self.group(place)
            mine.kept.update(found.kept)
            for why, amount in found.dropped.items():
                mine.drop(why, amount)


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum of amounts."""
    found: Amount = Counter()
    for amount in amounts:
        found.update(amount)
    return found


def count(pieces: Iterable[pa.Table], models: Sequence[Model]) -> tuple[list[Tally], int]:
    """A tally for each model of the samples in some tables, and how many samples there were.

    Raises ValueError if a verdict does not speak of exactly these samples.
    """
    tallies, start = [Tally() for _ in models], 0
    for samples in pieces:
        rows = list(map(sized, samples.to_pylist()))
        for model, tally in zip(models, tallies, strict=True):
            _count(samples, rows, start, model, tally)
        start += samples.num_rows
    for model in models:
        for name, verdict in model.verdicts.items():
            if verdict.num_rows != start:
                raise ValueError(f"the verdicts of {name} don't speak of these samples row by row; run {name} again")
    return tallies, start


def _count(samples: pa.Table, rows: Sequence[dict[str, Any]], start: int, model: Model, tally: Tally) -> None:
    """Add some samples, the first of which is number `start` of its part."""
    mine = {name: verdict.slice(start, samples.num_rows) for name, verdict in model.verdicts.items()}
    spoken = languages(samples, mine)
    drops, kept = first_drop(samples["sample_id"], mine), kept_turns(samples.num_rows, mine)
    for row, language, (judge, reason), turns in zip(rows, spoken, drops, kept, strict=True):
        group = tally.group(Place(row["source"], language))
        why, made = _made(row if reason is not None else cut(row, turns), model)
        if judge is not None and reason is not None:
            group.drop((judge, reason), _amount(made))
        elif why is not None:
            group.drop(("", why), _amount(made))
        else:
            group.kept.update(_amount(made))
            tally.lengths.update(one["num_tokens"] for one in made)


def _made(row: Mapping[str, Any], model: Model) -> tuple[str | None, list[dict[str, Any]]]:
    """Why the model recipe drops a sample, or the rows that it gives."""
    try:
        return None, rows_of(row, model.chat, model.params)[0]
    except Dropped as drop:
        check_reasons([drop.reason], REASONS, "census")
        return drop.reason, []


def _amount(made: Sequence[Mapping[str, int]]) -> Amount:
    """One sample with its rows."""
    sums = {name: sum(one[name] for one in made) for name in COUNTS}
    return Counter({"samples": 1, "rows": len(made), **sums})


def sized(row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample as `rows_of` wants it: for each image a number in the place of its bytes and of their hash."""
    sizes = row["image_info"] or []
    info = [{"width": size["width"], "height": size["height"], "sha256": None} for size in sizes]
    return {**row, "images": list(range(len(info))), "image_info": info}


def languages(samples: pa.Table, verdicts: Mapping[str, pa.Table]) -> list[str | None]:
    """The language that a filter found, or what the source says."""
    found = [verdict["language"] for verdict in verdicts.values() if "language" in verdict.column_names]
    return list((found or [samples["declared_language"]])[0].to_pylist())
