"""Every row that never became a sample, of all sources, as one table: to the terminal, or to one parquet file.

Reads `rejected-*.parquet` of the ingest steps, in the recipe's order of sources and the rows' own. What comes out is
the number of rejects that the manifests state. Of steps that aren't finished (run.stop_if ended the run, say) the
finished parts are shown, and stderr says of each what is missing; where nothing is done there is no table but an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.graph.context import Context
from pipeline.graph.errors import MissingInput
from pipeline.graph.stage import Step
from pipeline.graph.task import records_in
from pipeline.storage import layout
from pipeline.storage.commit import commit
from pipeline.storage.part_reader import read
from schemas.manifest import ManifestError
from schemas.sample import REJECT
from schemas.shown import shown
from schemas.strict import RecipeError


def show(steps: Sequence[Step], context: Context) -> int:
    """Print `sample_id`, `reason` and `detail` of every reject, tab-separated; how many there are."""
    total = 0
    for number, table in enumerate(_tables(steps, context)):
        if not number:
            sys.stdout.write("sample_id\treason\tdetail\n")
        total += table.num_rows
        for row in table.to_pylist():
            sys.stdout.write("\t".join(shown(row[name]) for name in ("sample_id", "reason", "detail")) + "\n")
    return total


def save(steps: Sequence[Step], context: Context, path: Path) -> int:
    """Write all rejects (schemas/sample.py, REJECT) to one parquet file; how many there are."""
    if path.suffix != ".parquet":
        raise RecipeError(f"--save {path}: got {path.suffix or 'no suffix'}, wanted a name that ends in .parquet")
    total = 0

    def write(target: Path) -> None:
        nonlocal total
        with pq.ParquetWriter(target, REJECT, compression="zstd") as writer:
            for table in _tables(steps, context):
                writer.write_table(table)
                total += table.num_rows

    try:
        commit(path, write)
    except OSError as error:
        raise RecipeError(f"--save {path}: can't be written ({error.strerror or error})") from None
    return total


def _tables(steps: Sequence[Step], context: Context) -> Iterator[pa.Table]:
    found_in = [_stated(step, context) for step in steps if step.stage.makes == "samples"]
    if not any(files for _, files, _ in found_in):
        raise MissingInput("nothing is ingested yet; run `python -m pipeline run RECIPE` first")
    for step, files, stated in found_in:
        found = 0
        for name in files:
            table = read(context.out / step.folder / name, schema=REJECT)
            found += table.num_rows
            yield table
        if found != stated:
            raise ManifestError(
                f"{context.out / step.folder}: {found:,} rejects in its files, {stated:,} in its records"
            )


def _stated(step: Step, context: Context) -> tuple[Step, list[str], int]:
    """A step, its files of rejects, and how many rejects its manifest (or the records of its parts) state."""
    manifest = context.manifest(step)
    records = [manifest] if manifest else records_in(context.out / step.folder, step.identity)
    if manifest is None:
        print(f"note: {step.name} is not finished: {len(records):,} of its parts are here", file=sys.stderr)
    names = [file.name for record in records for file in record.files if layout.is_a("rejected", file.name)]
    return step, names, sum(sum(record.counts.rejected.values()) for record in records)
