"""Benchmarks as the pipeline ingested them: where they lie, how they are scored, and their questions, row by row.

A folder of one has SAMPLE parts (schemas/sample.py), and its manifest says how it is asked and scored. An output folder
of the pipeline may hold several.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from schemas import manifest, strict
from schemas.benchmark import Scoring
from schemas.manifest import MANIFEST, Manifest, ManifestError
from schemas.strict import RecipeError

FACT = "benchmark"
_COLUMNS = ("sample_id", "messages", "images", "references", "choices", "category")
_NAME = re.compile(r"[^\W_][\w .+()-]*")  # it names a folder of answers
_ROWS_AT_ONCE = 16  # a row has whole pictures


@dataclass(frozen=True)
class Question:
    """A row. `messages` end with what is to be answered."""

    sample_id: str
    messages: tuple[dict[str, Any], ...]
    images: tuple[bytes, ...]
    names: tuple[str, ...]
    references: tuple[str, ...]
    choices: tuple[str, ...]
    category: str | None


@dataclass(frozen=True)
class Benchmark:
    folder: Path
    name: str
    scoring: Scoring
    identity: str
    parts: tuple[str, ...]
    rows: int

    def questions(self, limit: int | None = None) -> Iterator[Question]:
        """All of them or the first so many, a few in memory at a time."""
        rows = (row for part in self.parts for row in _rows(self.folder / part))
        return islice((_question(row) for row in rows), limit)


def find(places: Sequence[Path], only: Collection[str] = ()) -> list[Benchmark]:
    """The benchmarks of folders: ingested ones themselves, or all in an output folder. Raises RecipeError."""
    found: dict[str, Benchmark] = {}
    for benchmark in (each for place in places for each in _in(place)):
        other = found.setdefault(benchmark.name, benchmark)
        if other.identity != benchmark.identity:
            raise RecipeError(
                f"{benchmark.name}: two benchmarks have this name, {other.folder} and {benchmark.folder}; give one"
            )
    if unknown := sorted(set(only) - found.keys()):
        raise RecipeError(f"--only: got {unknown[0]}, there are {', '.join(sorted(found)) or 'none'}")
    return [found[name] for name in found if not only or name in only]


def _in(place: Path) -> list[Benchmark]:
    if not place.is_dir():
        raise RecipeError(f"{place}: no such folder; give an output folder of the pipeline, or one benchmark's in it")
    if (place / MANIFEST).is_file():
        one = _benchmark(place, manifest.read(place))
        if one is None:
            raise RecipeError(f"{place}: is a finished step and no benchmark; give the folder of an ingested benchmark")
        return [one]
    inside = [path.parent for path in sorted(place.glob(f"*/{MANIFEST}"))]
    found = [each for path in inside if (each := _benchmark(path, manifest.read(path)))]
    if not found:
        raise RecipeError(f"{place}: no benchmark in it; run the pipeline with `benchmarks` in the recipe first")
    return found


def _benchmark(folder: Path, of: Manifest) -> Benchmark | None:
    """None for a step that is none."""
    fact = of.facts.get(FACT)
    if fact is None:
        return None
    name = fact.get("name") if isinstance(fact, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ManifestError(f"{folder}: its manifest names no benchmark ({name!r}); run the ingest of it again")
    try:
        scoring = strict.build(Scoring, fact.get("scoring"), "scoring")
    except ValueError as error:
        raise ManifestError(
            f"{folder}: its manifest has another scoring ({error}); run the ingest of it again"
        ) from None
    parts = [file for file in of.files if file.name.startswith("part-") and file.name.endswith(".parquet")]
    rows = sum(file.rows or 0 for file in parts)
    return Benchmark(folder, name, scoring, of.identity, tuple(sorted(p.name for p in parts)), rows)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            lacks = [name for name in _COLUMNS if name not in file.schema_arrow.names]
            if lacks:
                raise ManifestError(f"{path}: no column {lacks[0]}; run the ingest of this benchmark again")
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(_COLUMNS)):
                yield from batch.to_pylist()
    except (OSError, ValueError) as error:
        if isinstance(error, ManifestError):
            raise
        why = " ".join(str(error).split())
        raise ManifestError(f"{path}: can't be read ({why}); run the ingest of this benchmark again") from None


def _question(row: dict[str, Any]) -> Question:
    images = row["images"] or []
    return Question(
        sample_id=row["sample_id"],
        messages=asked(row["messages"] or []),
        images=tuple(image["bytes"] or b"" for image in images),
        names=tuple(image["path"] or "" for image in images),
        references=tuple(row["references"] or ()),
        choices=tuple(row["choices"] or ()),
        category=row["category"],
    )


def asked(messages: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The messages up to the last of the user, in the chat-template shape; what comes after it is an answer."""
    last = max((number for number, one in enumerate(messages) if one["role"] == "user"), default=-1)
    return tuple(
        {"role": one["role"], "content": [_block(block) for block in one["content"] or []]}
        for one in messages[: last + 1]
    )


def _block(block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "image"} if block["type"] == "image" else {"type": "text", "text": block["text"] or ""}
