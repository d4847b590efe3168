"""The files of a source, as its download step listed them: where they lie, and which of them hold records or images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage import layout


@dataclass(frozen=True)
class SourceFiles:
    """Names relative to `root`: every one that the declaration names, and those that hold records."""

    root: Path
    named: list[str]
    records: list[str]


def source_files(download: Step, context: Context) -> SourceFiles:
    """What a finished download step lists."""
    folder = context.out / download.folder
    fetched = context.fetched(download.label)
    root = folder / layout.FETCHED if fetched else context.place(download.label)
    listing = pq.read_table(folder / layout.FILES, columns=["file", "role"]).to_pylist()
    records = [row["file"] for row in listing if row["role"] == "records"]
    return SourceFiles(root, [row["file"] for row in listing], records)
