"""Every row that never became a sample, of all sources, as one table: to the terminal, or to one parquet file.

Reads `rejected-*.parquet` of the finished ingest steps, in the recipe's order of sources and the rows' own. What comes
out is the number of rejects that the manifests state; a step that isn't finished is an error, not a shorter table.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.graph import Step
from pipeline.runner import MissingInput, finished
from schemas.manifest import ManifestError
from schemas.sample import REJECT
from schemas.strict import RecipeError

# Tabs and line ends would break the table, other control characters the terminal: shown, not obeyed
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def show(steps: Sequence[Step], out: Path) -> int:
    """Print `sample_id`, `reason` and `detail` of every reject, tab-separated; how many there are."""
    sys.stdout.write("sample_id\treason\tdetail\n")
    total = 0
    for table in _tables(steps, out):
        total += table.num_rows
        for row in table.to_pylist():
            sys.stdout.write("\t".join(_safe(row[name]) for name in ("sample_id", "reason", "detail")) + "\n")
    return total


def save(steps: Sequence[Step], out: Path, path: Path) -> int:
    """Write all rejects (schemas/sample.py, REJECT) to one parquet file; how many there are."""
    total = 0

    def write(target: Path) -> None:
        nonlocal total
        with pq.ParquetWriter(target, REJECT, compression="zstd") as writer:
            for table in _tables(steps, out):
                writer.write_table(table)
                total += table.num_rows

    try:
        storage.commit(path, write)
    except OSError as error:
        raise RecipeError(f"--save {path}: can't be written ({error.strerror or error})") from None
    return total


def _tables(steps: Sequence[Step], out: Path) -> Iterator[pa.Table]:
    ingests = [step for step in steps if step.stage == "ingest"]
    for step in ingests:
        if finished(step, out) is None:
            raise MissingInput(f"{step.name}: is not finished; run `python -m pipeline run RECIPE` first")
    for step in ingests:
        manifest, found = finished(step, out), 0
        assert manifest is not None
        for file in manifest.files:
            if file.name.startswith("rejected-"):
                table = pq.read_table(out / step.folder / file.name, schema=REJECT)
                found += table.num_rows
                yield table
        stated = sum(manifest.counts.rejected.values())
        if found != stated:
            raise ManifestError(f"{out / step.folder}: {found:,} rejects in its files, {stated:,} in its manifest")


def _safe(text: str) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)
