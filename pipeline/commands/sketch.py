"""The sketches of a recipe's benchmarks in one file: what finds their leaks, without what is in them.

A recipe on another machine names the file in `sketches` of the section that names benchmarks otherwise, and its
verdicts are the same. stages/filters/leak_sketch.py says what the file holds, and what it gives away all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.steps.samples import parts_of
from pipeline.storage.commit import commit
from pipeline.storage.part_reader import read
from schemas.strict import RecipeError
from stages.filters import leak_sketch

HELP = "sketches of the recipe's benchmarks, images and texts, as one file that holds neither"
SUFFIX = ".parquet"


def needed(steps: Sequence[Step]) -> list[Step]:
    """What has to be done to know the benchmarks. Raises RecipeError where the recipe has none."""
    found = {benchmark for step in steps for benchmark in step.benchmarks}
    if not found:
        raise RecipeError("data.benchmarks: missing; name what is to be sketched, declared like sources")
    return [step for step in steps if any(step is one or one.reads(step) for one in found)]


def save(steps: Sequence[Step], context: Context, path: Path) -> int:
    """Write the sketches of all benchmarks, in the recipe's order; how many samples they are of."""
    judge = next(step for step in steps if step.benchmarks)
    text = judge.params.text
    rows = 0

    def write(target: Path) -> None:
        nonlocal rows
        rows = leak_sketch.write((leak_sketch.sketch(table, text) for table in _tables(judge, context)), text, target)

    try:
        commit(path, write)
    except OSError as error:
        raise RecipeError(f"--to {path}: can't be written ({error.strerror or error})") from None
    return rows


def check(path: Path) -> None:
    """Raise RecipeError for a name that no sketch can have."""
    if path.suffix != SUFFIX:
        raise RecipeError(f"--to {path}: got {path.suffix or 'no suffix'}, wanted a name that ends in {SUFFIX}")


def _tables(judge: Step, context: Context) -> Iterator[pa.Table]:
    """The samples of each benchmark."""
    for benchmark in judge.benchmarks:
        parts = [read(part.path, list(leak_sketch.COLUMNS)) for part in parts_of([benchmark], context)]
        if parts:
            yield pa.concat_tables(parts).unify_dictionaries()
