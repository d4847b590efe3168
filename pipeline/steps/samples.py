"""Parts of samples, as the steps after ingest read them: numbered over all sources, in the recipe's order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage import layout


@dataclass(frozen=True)
class Part:
    """One part of samples: its file, the source it comes from, its rows."""

    path: str
    source: str
    rows: int


def parts_of(steps: Iterable[Step], context: Context) -> list[Part]:
    """Every part that these steps have made; a step without its manifest has none."""
    return [
        Part(str(context.out / step.folder / file.name), step.label, file.rows or 0)
        for step in steps
        if (manifest := context.manifest(step))
        for file in manifest.files
        if layout.is_a("part", file.name)
    ]
