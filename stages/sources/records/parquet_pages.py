"""How large the pages of a parquet column are, from their headers alone: arrow doesn't tell, and reads each one whole.

A page header is a struct of Thrift's compact protocol: 1 type, 2 size as it is, 3 size compressed, then the header of
its kind: 5 and 8 are data pages of the two versions, whose first field is the number of values, nulls included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from stages.sources.records.streams import DataError

_HEADER = 64 * 1024  # a header holds the smallest and the largest value, cut short by every writer
_SHORT = 512  # what most headers have room in
_SIZE, _COMPRESSED, _DATA, _VALUES = 2, 3, (5, 8), 1
_STRUCT, _BINARY, _DOUBLE, _BYTE, _BOOLEANS, _INTEGERS = 12, 8, 7, 3, (1, 2), (4, 5, 6)


class Pages(NamedTuple):
    """Of a column chunk: the bytes of the largest page, decompressed, and the values of all data pages."""

    largest: int
    entries: int


def pages(path: Path, begin: int, size: int) -> Pages:
    """What the page headers of a column chunk say. Raises DataError for a damaged one."""
    found, entries, at = 0, 0, begin
    with path.open("rb", buffering=0) as stream:
        while at < begin + size:
            page, length = _header(stream, path, at)
            found = max(found, page[_SIZE])
            entries += sum(max(page[kind].get(_VALUES) or 0, 0) for kind in _DATA if isinstance(page.get(kind), dict))
            at += length + page[_COMPRESSED]
    return Pages(found, entries)


def _header(stream: BinaryIO, path: Path, at: int) -> tuple[dict[int, Any], int]:
    for most in (_SHORT, _HEADER):
        stream.seek(at)
        try:
            page, length = _struct(stream.read(most), 0)
            if length + page[_COMPRESSED] > 0 and page[_SIZE] >= 0:
                return page, length
        except (IndexError, KeyError, ValueError):
            continue
    raise DataError(f"{path}: damaged page header at byte {at:,}; fetch it again")


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct by number, and where it ends; only integers and structs have a value."""
    fields: dict[int, Any] = {}
    number = 0
    while (head := data[at]) != 0:
        at += 1
        kind, delta = head & 15, head >> 4
        if delta:
            number += delta
        else:
            number, at = _integer(data, at)
        fields[number], at = _value(data, at, kind)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in _BOOLEANS:
        return None, at
    if kind in _INTEGERS:
        return _integer(data, at)
    if kind == _STRUCT:
        return _struct(data, at)
    if kind == _BINARY:
        length, at = _varint(data, at)
        return None, at + length
    if kind in (_BYTE, _DOUBLE):
        return None, at + (1 if kind == _BYTE else 8)
    raise ValueError(f"type {kind} in a page header")  # lists and maps: the format has none there


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
