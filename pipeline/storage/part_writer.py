"""How the files of a part are written, table by table: parquet in row groups, shards in record batches.

Every table that comes is a row group of its own, or a record batch, so a file of any size takes the memory of its
largest table. Every page of parquet has a checksum (part_reader.py).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.commit import TEMPORARY, commit
from schemas.manifest import FileEntry, describe

_IMAGE_BYTES = "images.list.element.bytes"


class PartWriter:
    """The files of one task, and what is to be recorded of them. `number`: the task's, and of the files it writes.

    How far it is with its first file stands in a small one beside it, for whoever shows the progress.
    """

    def __init__(self, folder: Path, number: int = 0) -> None:
        self.folder, self.number = folder, number
        self.entries: list[FileEntry] = []
        self._rows = rows_file(folder, number)

    def write(self, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
        """One file, whole or absent: a shard if it is called `.arrow`, else parquet."""
        rows = 0

        def counted() -> Iterator[pa.Table]:
            nonlocal rows
            for table in tables:
                rows += table.num_rows
                yield table
                if not self.entries:
                    self._rows.write_text(str(rows), encoding="ascii")

        write = _write_shard if name.endswith(".arrow") else write_parquet
        try:
            commit(self.folder / name, lambda temporary: write(counted(), schema, temporary))
        finally:
            self._rows.unlink(missing_ok=True)
        self.add(name, rows)

    def add(self, name: str, rows: int | None = None) -> None:
        """Record a file that lies in the folder already."""
        self.entries.append(describe(self.folder, name, rows))


def rows_file(folder: Path, number: int) -> Path:
    """Where a task writes how many rows it has written so far, while it does."""
    return folder / f"{TEMPORARY}rows-{number:05d}"


def rows_so_far(folder: Path, numbers: Iterable[int]) -> int:
    """Rows that tasks under way have written."""
    rows = 0
    for number in numbers:
        try:
            rows += int(rows_file(folder, number).read_text(encoding="ascii") or 0)
        except FileNotFoundError:
            continue  # not begun, or done
    return rows


def write_parquet(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    names = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    compression = {name: "NONE" if name == _IMAGE_BYTES else "ZSTD" for name in _leaves(schema)}
    with pq.ParquetWriter(
        path, schema, compression=compression, use_dictionary=names, write_page_checksum=True
    ) as sink:
        for table in filter(len, tables):
            sink.write_table(table)


@functools.cache
def _leaves(schema: pa.Schema) -> list[str]:
    """Parquet's leaf columns of an Arrow schema, as pyarrow names them."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    parquet = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [parquet.column(i).path for i in range(len(parquet))]


def _write_shard(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for table in filter(len, tables):
            # One chunk per batch: a batch must not split where from_pylist happened to chunk.
            writer.write_table(table.combine_chunks())
