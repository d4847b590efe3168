"""One record of a source as a draft, and the columns of it that nobody reads.

What a recipe's declaration does not name vanishes from the result. So it is counted by name: a column of the record, a
key of its turns (`conversations[].model`), a kind of member of a tar (`.npy`). Some of it can't be passed over, and the
row is a reject (shapes/beyond.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stages.sources.declaration import Source
from stages.sources.shapes import draft, webdataset
from stages.sources.shapes.beyond import is_media, liked, refuse, refuse_marks, refused, something
from stages.sources.shapes.draft import Draft
from stages.sources.table import FORMATS


def adapted(record: Any, source: Source) -> Draft:
    """The draft of a record, its ratings in it. Raises BadRow."""
    record = draft.mapping(record, "the record")
    fields = fields_of(record, source)
    _refuse(fields, source)
    found = FORMATS[source.format].adapt(record, source.reading)
    found.scores |= draft.ratings(fields, source.scores)
    return found


def fields_of(record: Mapping[str, Any], source: Source) -> Mapping[str, Any]:
    """The columns of a record; of a tar's sample those of its json. Raises BadRow."""
    return webdataset.json_fields(record, source.reading) if source.format == "webdataset" else record


def wanted(name: str, source: Source) -> bool:
    """Whether a column is read, or has to be looked at because its content may cost the row."""
    return name in source.read_columns or FORMATS[source.format].also(name) or _guarded(name, source)


def _guarded(name: str, source: Source) -> bool:
    return name not in source.ignore and (refused(name) != "" or liked(name))


def _valued(value: Any) -> bool:
    """Whether a column says something here; 0 and false do."""
    return something(value) or (isinstance(value, bool | int | float) and value == value)


def _only_looked_at(name: str, source: Source) -> bool:
    return liked(name) and name not in source.read_columns


def unread(record: Any, source: Source) -> set[str]:
    """The names of all that has a value in a record and is neither read nor looked at. Raises BadRow."""
    fields = fields_of(record, source)
    passed = {name for name in fields if not wanted(name, source) or _only_looked_at(name, source)}
    names = {name for name in passed if _valued(fields[name])}
    for column, turn in _turns(fields, source):
        names |= {f"{column}[].{key}" for key in turn.keys() - source.turn_keys if _valued(turn[key])}
    return names | set(webdataset.unread_members(record) if fields is not record else ())


def _refuse(fields: Mapping[str, Any], source: Source) -> None:
    """Raise BadRow for what a sample can't hold."""
    known = source.read_columns | set(source.ignore)
    refuse(fields, known)
    media = any(isinstance(name, str) and name not in known and is_media(name) for name in fields)
    refuse_marks(_said(fields, source), media)
    for column, turn in _turns(fields, source):
        if turn.keys() - source.turn_keys:
            names = {key for key in turn if f"{column}[].{key}" in source.ignore}
            refuse(turn, source.turn_keys | names, f"{column}[].")


def _said(fields: Mapping[str, Any], source: Source) -> Iterator[tuple[Any, Any]]:
    """(role, text) of what may hold a mark: not in the shape `texts`, where `<image>` is a word too."""
    shape, names = FORMATS[source.format], source.column_map
    for field in shape.marks:
        yield "user", fields.get(names[field])
    for _, turn in _turns(fields, source):
        role, text = turn.get(names.get("role", "role")), turn.get(names.get("text", "content"))
        yield turn.get("from") if role is None else role, turn.get("value") if text is None else text


def _turns(fields: Mapping[str, Any], source: Source) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(column, turn) of everything in the lists of turns that is one."""
    for field in FORMATS[source.format].turns:
        column = source.column_map[field]
        turns = fields.get(column)
        for turn in turns if isinstance(turns, list) else ():
            if isinstance(turn, Mapping):
                yield column, turn
