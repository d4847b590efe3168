"""Rows -> parquet files of about so many bytes, written one after the other, in bounded memory, resumable at a file.

Where a file ends follows from the rows and from nothing else. Pages are cut by content (about a megabyte, or one row),
so a reader can bound its memory by them and storage that knows pieces again is sent only what is new. Row groups are
at most GROUP_BYTES before compression, or one row. Every page has a checksum and stands in an index. Images are stored
as they came.

What is written stands in a journal, a line for each whole file, with the place where the next one begins. A killed
process leaves whole files, and one that is begun anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.publish.tally import Tally
from pipeline.storage.commit import TEMPORARY
from schemas import strict
from schemas.manifest import FileEntry, describe
from schemas.published import DATA, REPEATED

GROUP_BYTES = 64 * 1024 * 1024
PAGE_BYTES = 1024 * 1024
JOURNAL = "journal.jsonl"

_IMAGE_BYTES = "images.list.element.bytes"


@dataclass(frozen=True)
class Place:
    """The next row to be written: the part, and how many of its kept rows are in files."""

    part: int
    row: int


@dataclass(frozen=True)
class Written:
    """A whole file: its entry, under the number that it is written under; what it holds; where the next one begins."""

    entry: FileEntry
    tally: Tally
    next: Place


def temporary_name(number: int) -> str:
    return f"{DATA}/{number:05d}.parquet"


def final_name(number: int, total: int) -> str:
    return f"{DATA}/train-{number:05d}-of-{total:05d}.parquet"


def write_all(
    folder: Path, identity: str, schema: pa.Schema, parts: int, pieces: Callable[[int], Iterable[pa.Table]], most: int
) -> Iterator[Written]:
    """Write the rows of all parts; each file as it is whole, those of an earlier try first."""
    done = _journal(folder, identity)
    yield from done
    place = done[-1].next if done else Place(0, 0)
    source = _Source(parts, pieces, place)
    number = len(done)
    while source.any() or not number:
        written = _file(folder, number, schema, source, most)
        with (folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(asdict(written), ensure_ascii=True) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        yield written
        number += 1


def _journal(folder: Path, identity: str) -> list[Written]:
    """The whole files of an earlier try of the same publication; all else in the folder is removed."""
    path, done = folder / JOURNAL, list[Written]()
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if lines[:1] == [identity]:
        for line in lines[1:]:
            if (written := _sound(folder, len(done), line)) is None:
                break
            done.append(written)
    (folder / DATA).mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([identity, *lines[1 : len(done) + 1]]) + "\n", encoding="utf-8")
    for other in (folder / DATA).iterdir():
        if f"{DATA}/{other.name}" not in {written.entry.name for written in done}:
            other.unlink()
    return done


def _sound(folder: Path, number: int, line: str) -> Written | None:
    try:
        written = strict.build(Written, json.loads(line))
        whole = (folder / written.entry.name).stat().st_size == written.entry.size
    except (ValueError, OSError):
        return None
    return written if whole and written.entry.name == temporary_name(number) else None


class _Source:
    """The rows that are still to be written. `table`: those that were read and are not taken yet."""

    def __init__(self, parts: int, pieces: Callable[[int], Iterable[pa.Table]], place: Place) -> None:
        self._parts, self._pieces, self.place = parts, pieces, place
        self._left: Iterator[pa.Table] = iter(())
        self.table: pa.Table | None = None
        if place.part < parts:
            self._left = self._rest(place)

    def _rest(self, place: Place) -> Iterator[pa.Table]:
        skip = place.row
        for table in self._pieces(place.part):
            yield table.slice(skip)
            skip = max(0, skip - table.num_rows)

    def any(self) -> bool:
        """Whether there is a row; `table` has it then."""
        while self.table is None or not self.table.num_rows:
            self.table = next(self._left, None)
            if self.table is None:
                if self.place.part + 1 >= self._parts:
                    return False
                self.place = Place(self.place.part + 1, 0)
                self._left = iter(self._pieces(self.place.part))
        return True

    def take(self, rows: int) -> pa.Table:
        assert self.table is not None
        taken, self.table = self.table.slice(0, rows), self.table.slice(rows)
        self.place = Place(self.place.part, self.place.row + rows)
        return taken


def _file(folder: Path, number: int, schema: pa.Schema, source: _Source, most: int) -> Written:
    """One file: row groups as long as it has room. At least one row, if there is one."""
    name, tally = temporary_name(number), Tally()
    temporary = folder / DATA / f"{TEMPORARY}{number:05d}"
    rows = 0
    with pa.OSFile(str(temporary), "wb") as sink, _writer(sink, schema) as writer:
        while (group := _group(source, most - sink.tell(), not rows)) is not None:
            writer.write_table(group, row_group_size=group.num_rows)
            tally = tally + Tally.of(group)
            rows += group.num_rows
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(folder / name)
    return Written(describe(folder, name, rows), tally, source.place)


def _group(source: _Source, room: int, first: bool) -> pa.Table | None:
    """The next row group, of rows that need at most `room`; None where not even one does, unless it is the first."""
    taken: list[pa.Table] = []
    left = min(GROUP_BYTES, room)
    while source.any() and source.table is not None:
        rows = _fitting(source.table, left)
        if not rows and not taken and (first or (source.table.slice(0, 1).nbytes > GROUP_BYTES <= room)):
            rows = 1
        if not rows:
            break
        taken.append(source.take(rows))
        left -= taken[-1].nbytes
    return pa.concat_tables(taken).combine_chunks() if taken else None


def _fitting(table: pa.Table, room: int) -> int:
    """How many of the first rows take at most so many bytes."""
    low, high = 0, int(table.num_rows)
    if table.nbytes <= room:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if table.slice(0, middle).nbytes <= room else (low, middle - 1)
    return low


def _writer(sink: pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    leaves = _leaves(schema)
    return pq.ParquetWriter(
        sink,
        schema,
        compression={name: "NONE" if name == _IMAGE_BYTES else "ZSTD" for name, _ in leaves},
        use_dictionary=[name for name, words in leaves if words],
        write_statistics=[name for name, _ in leaves if "." not in name],
        data_page_size=PAGE_BYTES,
        write_page_index=True,
        write_page_checksum=True,
        use_content_defined_chunking=True,
    )


def _leaves(schema: pa.Schema) -> Sequence[tuple[str, bool]]:
    """(name, whether few words recur in it) of parquet's leaf columns."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    parquet = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [
        (column.path, column.path.rpartition(".")[2] in REPEATED) for column in map(parquet.column, range(len(parquet)))
    ]
