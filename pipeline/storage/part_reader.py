"""How the parquet files of steps are read: every page has a checksum, which is compared.

A byte that flips on a disk is found when it is read, and not when a trainer has learnt it: in one line that says which
file it is. (`python -m pipeline verify` reads whole files and compares their hashes.)
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.manifest import ManifestError


def read(
    path: str | Path, columns: Sequence[str] | None = None, schema: pa.Schema | None = None, threads: bool = True
) -> pa.Table:
    """A whole file, or some of its columns; `schema`: what it must have. Raises ManifestError for a damaged one."""
    wanted = None if columns is None else list(columns)
    with _whole(path):
        table = pq.read_table(path, columns=wanted, use_threads=threads, page_checksum_verification=True)
    if schema is not None and not table.schema.equals(schema):
        raise ManifestError(f"{path}: its columns are not those of its kind; delete the folder and run its stage again")
    return table


def columns(path: str | Path) -> list[str]:
    """The names of a file's columns."""
    with _whole(path):
        return list(pq.read_schema(path).names)


def row_groups(path: str | Path, columns: list[str] | None = None, first: int = 0) -> Iterator[pa.Table]:
    """A file, row group by row group, from the `first` on. Raises ManifestError for a damaged one."""
    with _whole(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
    with file:
        for number in range(first, file.num_row_groups):
            with _whole(path):
                table = file.read_row_group(number, columns)
            yield table


def row_group(path: str | Path, number: int, columns: list[str] | None = None) -> pa.Table:
    """One row group. Raises ManifestError for a damaged file."""
    with _whole(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read_row_group(number, columns)


def row_groups_from(path: str | Path, columns: list[str], row: int) -> tuple[int, Iterator[pa.Table]]:
    """The row groups from the one that holds a row on, and the number of the first one's first row."""
    with _whole(path), pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    ends = list(itertools.accumulate(sizes))
    skipped = bisect.bisect_right(ends, row)
    return (ends[skipped - 1] if skipped else 0), row_groups(path, columns, skipped)


@contextmanager
def _whole(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        why = " ".join(str(error).split())
        raise ManifestError(f"{path}: damaged ({why}); delete the folder and run its stage again") from None


def rows_of(path: str | Path, rows: Sequence[int], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Some rows of a file, whose numbers ascend, of only those row groups that hold them: a table for each such group.
    `columns`: None for all.

    Raises ManifestError for a damaged file, or one that has no such row.
    """
    with _whole(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
    with file:
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        ends = list(itertools.accumulate(sizes))
        if rows and rows[-1] >= sum(sizes):
            raise ManifestError(f"{path}: has {sum(sizes):,} rows, and row {rows[-1]:,} is asked for")
        for number, some in itertools.groupby(rows, lambda row: bisect.bisect_right(ends, row)):
            first = ends[number] - sizes[number]
            with _whole(path):
                table = file.read_row_group(number, None if columns is None else list(columns))
            yield table.take([row - first for row in some])


def image_files(path: str | Path, rows: Sequence[int]) -> dict[int, list[bytes]]:
    """The files of the images of some rows, whose numbers ascend."""
    tables = rows_of(path, rows, ["images.list.element.bytes"])
    found = (images for table in tables for images in table["images"].to_pylist())
    return {row: [image["bytes"] for image in images] for row, images in zip(rows, found, strict=True)}
