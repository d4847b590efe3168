"""Rows that are exchanged between the tasks of two phases: each task of the first writes one file with a block for
every bucket, each task of the second reads its block of all files.

Any number of buckets costs a file 12 bytes each, and a block is found by one look into the table at the file's end, so
thousands of tasks can be read by thousands of others. (A row group of parquet costs each reader the whole footer.) A
block is a record batch with a checksum, compressed; an empty one takes no bytes.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.storage.commit import commit
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import ManifestError

_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def write(writer: PartWriter, kind: str, table: pa.Table, bucket: np.ndarray, buckets: int) -> None:
    """The file `<kind>-NNNNN.rows` of a task; `bucket`: that of each row. Rows of one bucket keep their order."""
    name = file_name(kind, writer.number)
    order = np.argsort(bucket, kind="stable")
    bounds = np.searchsorted(bucket[order], np.arange(buckets + 1)).tolist()
    ordered = table.take(pa.array(order))
    blocks = (_packed(ordered.slice(start, end - start)) for start, end in itertools.pairwise(bounds))
    commit(writer.folder / name, lambda path: _write(path, blocks))
    writer.add(name, table.num_rows)


def read(folder: Path, kind: str, files: int, bucket: int, buckets: int, schema: pa.Schema) -> pa.Table:
    """The rows of one bucket in the files of so many tasks, in their order. Raises ManifestError for a damaged one."""
    blocks = (block(folder, kind, number, bucket, buckets, schema) for number in range(files))
    return pa.concat_tables([schema.empty_table(), *(table for table in blocks if table is not None)])


def block(
    folder: Path, kind: str, number: int, bucket: int, buckets: int, schema: pa.Schema, columns: Sequence[str] = ()
) -> pa.Table | None:
    """The rows of one bucket in the file of one task, if there are any. `columns`: those that are wanted; none: all."""
    chosen = [schema.get_field_index(name) for name in columns] or None
    options = pa.ipc.IpcReadOptions(included_fields=chosen, use_threads=False)
    path = folder / file_name(kind, number)
    try:
        found = _block(path, bucket, buckets)
        return pa.ipc.open_stream(found, options=options).read_all() if found else None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ManifestError(f"{path}: damaged ({error}); delete the folder and run its stage again") from None


def file_name(kind: str, number: int) -> str:
    return f"{kind}-{number:05d}.rows"


def _packed(table: pa.Table) -> bytes:
    if not table.num_rows:
        return b""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as stream:
        stream.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _write(path: Path, blocks: Iterable[bytes]) -> None:
    ends, sums = [0], []
    with path.open("wb") as file:
        for block in blocks:
            file.write(block)
            ends.append(file.tell())
            sums.append(zlib.crc32(block))
        file.write(np.array(ends, "<i8").tobytes() + np.array(sums, "<u4").tobytes())


def _block(path: Path, bucket: int, buckets: int) -> bytes:
    file = os.open(path, os.O_RDONLY)
    try:
        table = os.fstat(file).st_size - 8 * (buckets + 1) - 4 * buckets
        start, end = np.frombuffer(os.pread(file, 16, table + 8 * bucket), "<i8").tolist()
        (told,) = np.frombuffer(os.pread(file, 4, table + 8 * (buckets + 1) + 4 * bucket), "<u4").tolist()
        if not 0 <= start <= end <= table:
            raise ValueError("its table of blocks makes no sense")
        block = os.pread(file, end - start, start)
    finally:
        os.close(file)
    if zlib.crc32(block) != told:
        raise ValueError("a block has another checksum")
    return block
