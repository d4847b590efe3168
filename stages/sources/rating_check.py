"""Can a source rate its rows under a name? Asked before any of them is read, so "perhaps" is an answer.

A source gives the columns that its declaration lists as `scores`, and of FineVision's shape every column that is named
like a rating. A listed column may also hold a list of {name, value}, and rate under any name. Whether there is such a
column, the schemas of local parquet files tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stages.sources.declaration import Source
from stages.sources.records import parquet
from stages.sources.records.slices import kind
from stages.sources.records.streams import DataError
from stages.sources.shapes.texts import is_rating, rates_turns

_OWN = "scores"  # of our own samples
_SCHEMAS = 256  # files that are looked into


def may_rate(name: str, source: Source, listed: Callable[[], Sequence[Path] | None]) -> bool:
    """Whether rows of a source may be rated under `name`. `listed`: its record files; None: they are not here yet."""
    if name in source.scores:
        return True
    own = source.format == "texts" and is_rating(name)
    if not own and not source.scores:
        return False
    files = listed()
    if not own:
        return _OWN in source.scores if files is None else any(_named(path, source.scores) for path in files[:_SCHEMAS])
    return _has_column(name, files)


def may_rate_turns(name: str, source: Source, listed: Callable[[], Sequence[Path] | None]) -> bool:
    """Whether the turns of a source may be rated under `name`, which FineVision's shape alone does."""
    return source.format == "texts" and rates_turns(name) and _has_column(name, listed())


def _has_column(name: str, files: Sequence[Path] | None) -> bool:
    if files is None or len(files) > _SCHEMAS or any(kind(path.name) != "parquet" for path in files):
        return True
    return any(name in _columns(path, name) for path in files)


def _named(path: Path, scores: Sequence[str]) -> bool:
    """Whether one of these columns of a parquet file names its ratings itself."""
    try:
        return kind(path.name) == "parquet" and any(parquet.has_lists(path, name) for name in scores)
    except (DataError, OSError):
        return True


def _columns(path: Path, name: str) -> list[str]:
    try:
        return parquet.columns(path)
    except (DataError, OSError):
        return [name]  # what is wrong with the file, ingest will say
