"""The quickstart's corpus: clean rows and planted defects, and the truth about all of them.

Reads nothing. Writes the sources and the benchmark (see files.py) and beside them truth.json:

    rows_in   {source: rows}              rejected  {source: {reason: rows}}      dropped  {stage: {reason: rows}}
    kept   rows    held_out   {split: rows}    defects   [{source, file, row, kind, stage, reason, original}]
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.quickstart.defects import Defect, Planted, Planter, plant
from pipeline.quickstart.files import write_benchmark, write_sources
from pipeline.quickstart.raw import SOURCES, Place, Row, Studio, clean_rows, held_out_rows

LEAKING = "test"  # the split of which pictures leak into the sources; the recipe decontaminates against it
SMALLEST, LARGEST = 0.02, 2.0  # scales: room for two rows of every defect; enough different questions


def truth(rows: list[Row], held_out: list[Row], planted: list[tuple[Defect, Planted]], places: dict[int, Place]) -> Any:
    """What a correct pipeline must report about the corpus."""
    rejected: dict[str, Counter[str]] = {source: Counter() for source in SOURCES}
    dropped: dict[str, Counter[str]] = {}
    for defect, one in planted:
        if defect.stage == "ingest":
            rejected[one.row.source][str(defect.reason)] += 1
        elif defect.stage:
            dropped.setdefault(defect.stage, Counter())[str(defect.reason)] += 1
    lost = sum(counts.total() for counts in (*rejected.values(), *dropped.values()))
    return {
        "rows_in": {source: sum(row.source == source for row in rows) for source in SOURCES},
        "rejected": {source: dict(sorted(counts.items())) for source, counts in rejected.items()},
        "dropped": {stage: dict(sorted(counts.items())) for stage, counts in dropped.items()},
        "kept": len(rows) - lost,
        "held_out": dict(Counter(row.subset for row in held_out)),
        "defects": sorted((_entry(*pair, places) for pair in planted), key=_address),
    }


def _address(entry: dict[str, Any]) -> tuple[str, str, int]:
    return entry["source"], entry["file"], entry["row"]


def _entry(defect: Defect, one: Planted, places: dict[int, Place]) -> dict[str, Any]:
    entry = _where(one.row, places) | {"kind": defect.kind, "stage": defect.stage, "reason": defect.reason}
    if one.original is None:
        return entry | {"original": None}
    return entry | {"original": _where(one.original, places)}


def _where(row: Row, places: dict[int, Place]) -> dict[str, Any]:
    file, number = places[row.serial]
    return {"source": row.source, "file": file, "row": number}


def write_corpus(folder: Path, seed: int = 0, scale: float = 1.0) -> dict[str, Any]:
    """Write the corpus, its benchmark and truth.json; the same arguments give the same bytes. Returns the truth."""
    if not SMALLEST <= scale <= LARGEST:
        raise ValueError(f"scale is {scale}, but only {SMALLEST} to {LARGEST} gives enough rows, all of them different")
    studio = Studio(seed)
    held_out = held_out_rows(studio, scale)
    clean = clean_rows(studio, scale)
    planted = plant(Planter(studio, clean, [row for row in held_out if row.subset == LEAKING]), scale)
    rows = clean + [one.row for _, one in planted]
    places = write_sources(folder, rows, seed) | write_benchmark(folder / "benchmark", held_out)
    known: dict[str, Any] = truth(rows, held_out, planted, places)
    (folder / "truth.json").write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return known
