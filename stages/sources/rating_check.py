"""Can a source rate its rows under a name? Asked before any of them is read, so "perhaps" is an answer.

A source gives the columns that its declaration lists as `scores`, and of FineVision's shape every column that is named
like a rating. Whether there is such a column, the schemas of local parquet files tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stages.sources.declaration import Source
from stages.sources.records import parquet
from stages.sources.records.slices import kind
from stages.sources.records.streams import DataError
from stages.sources.shapes.texts import is_rating

_SCHEMAS = 256  # files that are looked into


def may_rate(name: str, source: Source, listed: Callable[[], Sequence[Path] | None]) -> bool:
    """Whether rows of a source may be rated under `name`. `listed`: its record files; None: they are not here yet."""
    if name in source.scores:
        return True
    if source.format != "texts" or not is_rating(name):
        return False
    files = listed()
    if files is None or len(files) > _SCHEMAS or any(kind(path.name) != "parquet" for path in files):
        return True
    return any(name in _columns(path, name) for path in files)


def _columns(path: Path, name: str) -> list[str]:
    try:
        return parquet.columns(path)
    except (DataError, OSError):
        return [name]  # what is wrong with the file, ingest will say
