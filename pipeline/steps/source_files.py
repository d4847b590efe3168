"""The files of a source, as its step listed them: where they lie, and which of them hold records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage import layout


@dataclass(frozen=True)
class SourceFiles:
    """Names relative to `root`: every one that the declaration names with its size, and those that hold records."""

    root: Path
    sizes: dict[str, int]
    records: list[str]


def source_files(step: Step, context: Context) -> SourceFiles:
    """What a finished step that makes files lists."""
    folder = context.out / step.folder
    fetched = context.fetched(step.label)
    root = folder / layout.FETCHED if fetched else context.place(step.label)
    listing = pq.read_table(folder / layout.FILES, columns=["file", "role", "size"]).to_pylist()
    records = [row["file"] for row in listing if row["role"] == "records"]
    return SourceFiles(root, {row["file"]: row["size"] for row in listing}, records)
