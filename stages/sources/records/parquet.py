"""Rows of a parquet file, one after the other, in memory that the size of a row group doesn't matter to.

Parquet can only be read forwards from the beginning of a row group, page by page; arrow puts values together until a
batch of rows is whole. So rows of images come one to a batch, and the bytes that a batch takes are metered. What no
reader of parquet gets around is the size of a page: it is held up to three times (compressed, as it is, as a
dictionary). So pages above the cap cost their row group: every row of it is a BadRow, since nobody can tell them apart.

Columns that nobody asks for are not read. In one that is, a row may have so many entries in its lists, as it may have
so many bytes: a list of nulls takes no byte in the file, and all the more once it is Python's.

A row group larger than a slice stays open in the process, at its place, so that slices done in order read it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.sources.records.parquet_pages import Pages, pages
from stages.sources.records.streams import DataError, Limits
from stages.sources.shapes.draft import BadRow

# Pages are read through a buffer, one after the other. Both settings are needed; with either alone pyarrow 26 holds
# the whole column of the row group.
_OPTIONS: dict[str, Any] = {"buffer_size": 1024 * 1024, "pre_buffer": False}
_BATCH = 64
_LARGE_ROW = 16 * 1024  # on average over its row group; smaller rows cost less to read than a batch for each
_MOST_BATCH = 64 * 1024 * 1024  # of small rows; where they are large after all, they come one by one
_ROWS_OF_NOTHING, _ROWS_PER_BYTE = 1 << 20, 64  # a file may have so many rows, or so many for each of its bytes
_MOST_PAGE = 1024 * 1024 * 1024  # writers put 100 rows into a page; a row may need two such (dictionary and data)
_MOST_ENTRIES = 1 << 26  # of one row's lists, before its bytes are counted: arrow takes about 11 bytes for each
_ENTRY = 64  # bytes that a row is counted for each entry: about what one takes in Python

Wanted = Callable[[str], bool]


def all_columns(_: str) -> bool:
    """Every column is wanted."""
    return True


def columns(path: Path) -> list[str]:
    """The names of the top-level columns."""
    return list(_opened(path, path).schema_arrow.names)


def has_lists(path: Path, name: str) -> bool:
    """Whether there is a top-level column of this name that holds lists."""
    schema = _opened(path, path).schema_arrow
    return any(field.name == name and pa.types.is_list(field.type) for field in schema)


def unread(path: Path, wanted: Wanted) -> list[str]:
    """The names of the columns that are not wanted, without those of which the file says that all is null."""
    file = _opened(path, path)
    kinds, about = file.schema_arrow.types, file.metadata
    passed = [
        (name, leaves, kind) for (name, leaves), kind in zip(_columns(file), kinds, strict=True) if not wanted(name)
    ]
    return [name for name, leaves, kind in passed if not pa.types.is_null(kind) and not _empty(about, leaves)]


def _empty(about: pq.FileMetaData, leaves: range) -> bool:
    chunks = (about.row_group(group).column(leaf) for group in range(about.num_row_groups) for leaf in leaves)
    return all((s := c.statistics) is not None and s.has_null_count and s.null_count == c.num_values for c in chunks)


def _columns(file: pq.ParquetFile) -> list[tuple[str, range]]:
    """Every top-level column with the numbers of its leaves. By number, because names may have dots in them."""
    found, first = [], 0
    for field in file.schema_arrow:
        last = first + _leaves(field.type)
        found.append((field.name, range(first, last)))
        first = last
    return found


def _leaves(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields)) if pa.types.is_nested(kind) else 1


def _wanted_leaves(file: pq.ParquetFile, path: Path, wanted: Wanted) -> list[int]:
    """The leaves of the wanted columns. Raises DataError for two that have one name: which is meant, nobody can say."""
    chosen = [(name, leaves) for name, leaves in _columns(file) if wanted(name)]
    names = [name for name, _ in chosen]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DataError(f"{path}: two columns are called {twice!r}; rename one of them")
    return [leaf for _, leaves in chosen for leaf in leaves]


def without_times(path: Path) -> Wanted:
    """Every column but those of times: Python can't hold all of them, and they say nothing of a record's shape."""
    names = {field.name for field in _opened(path, path).schema_arrow if not _has_time(field.type)}
    return names.__contains__


def _has_time(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_has_time(kind.field(number).type) for number in range(kind.num_fields))
    return bool(pa.types.is_temporal(kind))


def count(path: Path) -> int:
    """The number of rows. Raises DataError for what is no parquet, or says more rows than it can have."""
    return sum(_rows(_opened(path, path).metadata, path))


def _rows(about: pq.FileMetaData, path: Path) -> list[int]:
    """The rows of each row group. Raises DataError where the numbers can't be true.

    A footer is believed by nobody: each of its rows would become a slice. No row is nothing at all: values that are all
    alike take some bits in thousands of rows, so what says more than that is forged, or useless.
    """
    rows = [int(about.row_group(number).num_rows) for number in range(about.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != about.num_rows:
        told = f"{about.num_rows:,} rows, and {sum(rows):,} in its row groups"
        raise DataError(f"{path}: its footer says {told}; it is damaged or forged, fetch it again")
    if about.num_rows and not about.num_columns:
        raise DataError(f"{path}: its footer says {about.num_rows:,} rows without a column; fetch it again")
    most = max(_ROWS_OF_NOTHING, _ROWS_PER_BYTE * path.stat().st_size)
    if sum(rows) > most:
        told = f"{sum(rows):,} rows in {path.stat().st_size:,} bytes"
        raise DataError(f"{path}: its footer says {told}, at most {most:,} can be; fetch it again")
    return rows


def read(path: Path, first: int, rows: int, limits: Limits, wanted: Wanted = all_columns) -> Iterator[tuple[int, Any]]:
    """(row, record) of rows [first, first + rows), or of those that are there; of each the wanted columns."""
    file = _opened(path, path)
    leaves = tuple(_wanted_leaves(file, path, wanted))
    start = 0
    for number, size in enumerate(_rows(file.metadata, path)):
        end = start + size
        mine = range(max(first, start), min(first + rows, end))
        if mine:
            group = _kept(path, number, start, mine.start, limits, leaves)
            yield from group.records(mine)
            _last.clear()
            if mine.stop < end:
                _last[group.key] = group
        start = end


class _TooMuch(Exception):
    """A batch asks for more bytes than its rows may have."""


class _Group:
    """One row group being read: the batch that holds its next rows, and what comes after it."""

    def __init__(self, path: Path, number: int, start: int, limits: Limits, leaves: tuple[int, ...]) -> None:
        self.key, self._path, self._number, self._limits = _key(path, number, limits, leaves), path, number, limits
        self._meter, self._leaves = _Meter(path), list(leaves)
        self._file = _opened(self._meter, path)
        about = self._file.metadata.row_group(number)
        self._stuck = self._too_much(about)
        size = sum(about.column(leaf).total_uncompressed_size for leaf in leaves)
        self._size = _BATCH if size <= _LARGE_ROW * about.num_rows else 1
        self._open(start)

    def _too_much(self, about: pq.RowGroupMetaData) -> _TooMuch | None:
        """Why the row group can't be read at all: by its page headers, since what the file says of them may be wrong.

        Every row has an entry at least, so no row has more than all of them but one for each of the others.
        """
        for leaf in self._leaves:
            found = self._pages(about.column(leaf), self._file.schema.column(leaf).max_repetition_level > 0)
            if found.largest > _MOST_PAGE:
                problem = f"a page of {found.largest:,} bytes in its row group, at most {_MOST_PAGE:,}"
                return _TooMuch(f"{problem}; write it with smaller pages")
            if found.entries - about.num_rows > _MOST_ENTRIES:
                problem = f"{found.entries:,} entries in lists of its row group of {about.num_rows:,} rows"
                return _TooMuch(f"{problem}; write it with smaller row groups")
        return None

    def _pages(self, column: pq.ColumnChunkMetaData, nested: bool) -> Pages:
        """The column's pages, where they may be above a cap."""
        if column.total_uncompressed_size <= _MOST_PAGE and not nested:
            return Pages(0, 0)
        begin = min(column.data_page_offset, column.dictionary_page_offset or column.data_page_offset)
        return pages(self._path, begin, column.total_compressed_size)

    def records(self, wanted: range) -> Iterator[tuple[int, Any]]:
        row = wanted.start
        while row < wanted.stop:
            try:
                self._reach(row)
            except _TooMuch as error:
                yield from ((left, BadRow("row_too_large", str(error))) for left in range(row, wanted.stop))
                return
            end = min(wanted.stop, self.place + self._batch.num_rows)
            for record in _records(self._batch.slice(row - self.place, end - row), self._limits):
                yield row, record
                row += 1

    def _open(self, start: int) -> None:
        self._start = self.place = start
        self._batch: pa.RecordBatch = pa.record_batch([], names=[])
        # the reader itself takes numbers of leaves; `iter_batches` takes names, and splits them at their dots
        self._batches = self._file.reader.iter_batches(self._size, [self._number], self._leaves, use_threads=False)

    def _reach(self, row: int) -> None:
        """Read on to the batch that has a row. Raises _TooMuch at the row that can't be read, and ever after."""
        if self._stuck is not None:
            raise self._stuck
        while self.place + self._batch.num_rows <= row:
            self.place += self._batch.num_rows
            self._batch = pa.record_batch([], names=[])
            try:
                self._meter.taken, self._meter.most = 0, 2 * _MOST_PAGE if self._size == 1 else _MOST_BATCH
                self._batch = next(self._batches)
            except _TooMuch as error:
                if self._size == 1:
                    self._stuck = _TooMuch(
                        f"row {self.place:,} {error}, so no row from there on in its row group can be read"
                    )
                    raise self._stuck from None
                self._size = 1
                self._open(self._start)
            except (pa.ArrowInvalid, OSError, StopIteration) as error:
                problem = "the row group ends" if isinstance(error, StopIteration) else error
                raise DataError(f"{self._path}: damaged at row {self.place:,} ({problem}); fetch it again") from None


class _Meter:
    """The file as arrow reads it, page by page; a batch may take `most` bytes of it."""

    def __init__(self, path: Path) -> None:
        self._stream = pa.OSFile(str(path))
        self.most, self.taken = 2 * _MOST_PAGE, 0
        self.seek, self.tell, self.close = self._stream.seek, self._stream.tell, self._stream.close

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed)

    def read(self, size: int) -> bytes:
        self.taken += size
        if self.taken > self.most:
            raise _TooMuch(f"takes {self.taken:,} bytes or more at once")
        return bytes(self._stream.read(size))


_Key = tuple[str, int, int, int, int, Limits, tuple[int, ...]]
_last: dict[_Key, _Group] = {}


def _key(path: Path, number: int, limits: Limits, leaves: tuple[int, ...]) -> _Key:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, number, limits, leaves


def _kept(path: Path, number: int, start: int, row: int, limits: Limits, leaves: tuple[int, ...]) -> _Group:
    """The row group, at the place where the last slice left it if that isn't behind the row."""
    kept = _last.pop(_key(path, number, limits, leaves), None)
    return kept if kept is not None and kept.place <= row else _Group(path, number, start, limits, leaves)


def _opened(source: Any, path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source, **_OPTIONS)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({error}); fetch it again") from None


def _records(batch: pa.RecordBatch, limits: Limits) -> list[Any]:
    """The rows of a batch; one with a value that Python can't hold (text that isn't UTF-8) is a BadRow."""
    size, entries = batch.nbytes, sum(map(_entries, batch.columns))
    if size + _ENTRY * entries > limits.row:
        if batch.num_rows == 1:
            problem = f"{size:,} bytes with {entries:,} entries in lists ({_ENTRY} bytes each)"
            return [BadRow("row_too_large", f"{problem}, at most {limits.row:,}")]
        return _one_by_one(batch, limits)
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            return [BadRow("malformed_record", f"a value can't be read: {error}")]
        return _one_by_one(batch, limits)


def _one_by_one(batch: pa.RecordBatch, limits: Limits) -> list[Any]:
    return [record for row in range(batch.num_rows) for record in _records(batch.slice(row, 1), limits)]


def _entries(array: pa.Array) -> int:
    """How many entries the lists of an array have, at all depths."""
    if isinstance(array, pa.ExtensionArray):
        return _entries(array.storage)
    if isinstance(array, pa.StructArray):
        return sum(map(_entries, array.flatten()))
    if not pa.types.is_nested(array.type):
        return 0
    if isinstance(array, pa.MapArray):  # has no `flatten`, and `items` are those of the whole batch
        first, last = array.offsets[0].as_py(), array.offsets[-1].as_py()
        inner = array.items.slice(first, last - first)
    else:
        inner = array.flatten()
    return len(inner) + _entries(inner)
