"""Does a source have the columns that its declaration names? Asked before its rows are read.

A typo in a column map would reject every row of a source, one by one. So a column that the recipe names, or that the
shape cannot do without, must stand somewhere: in the schema of one of the parquet files, or in one of some records from
all over the others. Columns that may be missing and that the recipe doesn't name are not asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.strict import RecipeError
from stages.sources.declaration import Source
from stages.sources.records import parquet
from stages.sources.records.slices import Slice, first_records, kind
from stages.sources.shapes.draft import BadRow
from stages.sources.shapes.webdataset import json_fields
from stages.sources.table import FORMATS


def check(name: str, source: Source, files: Iterable[tuple[Path, Sequence[Slice]]]) -> None:
    """Raise RecipeError for a column that no file of the source has; a source without rows has nothing to ask."""
    left = _wanted(source)
    seen: dict[str, None] = {}
    for path, parts in files:
        for found in _columns(path, parts, source):
            seen |= dict.fromkeys(found)
            left = {key: column for key, column in left.items() if column not in found}
            if not left:
                return
    if seen:
        key, column = next(iter(left.items()))
        near = difflib.get_close_matches(column, list(seen), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(seen)[:20])}"
        raise RecipeError(f"data.sources.{name}.{key}: no column {column!r} in its files; {hint}")


def _wanted(source: Source) -> dict[str, str]:
    """Key of the recipe -> column that must stand somewhere."""
    shape = FORMATS[source.format]
    named = {field: column for field, column in source.column_map.items() if column or field not in shape.several}
    fields = [field for field in named if field in shape.required or field.partition("[")[0] in source.columns]
    wanted = {f"columns.{field}": named[field] for field in fields if field not in shape.inner}
    return wanted | {f"scores[{number}]": column for number, column in enumerate(source.scores)}


def _columns(path: Path, parts: Sequence[Slice], source: Source) -> Iterator[set[str]]:
    if kind(path.name) == "parquet":
        yield set(parquet.columns(path)) if parts else set()
        return
    for record in first_records(path, parts):
        yield _fields(record, source)


def _fields(record: Any, source: Source) -> set[str]:
    """The columns of one record; a tar's are those of its json. None for a record that will be a reject."""
    try:
        if source.format == "webdataset" and isinstance(record, Mapping):
            record = json_fields(record, source.reading)
    except BadRow:
        return set()
    return {key for key in record if isinstance(key, str)} if isinstance(record, Mapping) else set()
