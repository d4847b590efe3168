"""Does a manifest follow from its own folder? What no hash of a file tells: is the manifest whole, was it edited?

  identity   is what stage, version, parameters and inputs make; the folder and those of the inputs are named by theirs
  records    of every task say the same counts and files, and none is missing
  files      that lie there are named, and hold as many rows as is said

What the facts say, each stage proves from its own files (`Stage.verify`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.graph.stage import Stage, identity_of, ledger
from pipeline.graph.task import Record
from pipeline.storage import layout
from schemas import json_file, strict
from schemas.identity import canonical
from schemas.manifest import MANIFEST, FileEntry, Manifest, ManifestError

_LONGEST = 300


def prove(folder: Path, manifest: Manifest, stage: Stage) -> None:
    """Raise ManifestError naming the first thing that the folder's own content contradicts."""
    where = folder / MANIFEST
    _identity(where, manifest)
    records = _records(folder, manifest)
    if (counted := ledger(records)) != manifest.by_source:
        source = next(name for name in {**counted, **manifest.by_source} if _differs(counted, manifest.by_source, name))
        got, wanted = manifest.by_source.get(source), counted.get(source)
        raise ManifestError(f"{where}: by_source.{source} is {got}, the records of its parts say {wanted}")
    _files(folder, manifest, records, [phase.name for phase in stage.phases[:-1]])


def same_facts(folder: Path, manifest: Manifest, facts: Mapping[str, Any]) -> None:
    """Raise ManifestError for the first fact that is not what the files of the folder give."""
    for key in [*facts, *manifest.facts]:
        if _differs(facts, manifest.facts, key):
            got, wanted = manifest.facts.get(key, "missing"), facts.get(key, "nothing of that name")
            raise ManifestError(f"{folder / MANIFEST}: facts.{key} is {_short(got)}, its files give {_short(wanted)}")


def _short(value: Any) -> str:
    """A fact may be as long as a table."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def same_rows(folder: Path, what: str, said: Any, found: Any) -> None:
    """Raise ManifestError where files don't hold what the ledger says."""
    if said != found:
        raise ManifestError(f"{folder / MANIFEST}: {what} are {said}, its files give {found}")


def _differs(left: Mapping[str, Any], right: Mapping[str, Any], key: str) -> bool:
    # as text, for 1, 1.0 and True are one to Python
    return key not in left or key not in right or canonical(left[key]) != canonical(right[key])


def _identity(where: Path, manifest: Manifest) -> None:
    read = {**manifest.inputs, **manifest.benchmarks}
    named = [("the folder", where.parent.name, manifest.identity)]
    named += [(f"the input {name}", name, identity) for name, identity in read.items()]
    for what, name, identity in named:
        if (found := layout.STEP_FOLDER.fullmatch(name)) and found[1] != identity[:8]:
            raise ManifestError(f"{where}: identity: {what} is named by {found[1]}, it says {identity[:8]}")
    inputs, benchmarks = list(manifest.inputs.values()), list(manifest.benchmarks.values())
    made = identity_of(manifest.stage, manifest.version, manifest.parameters, inputs, benchmarks)
    if made != manifest.identity:
        raise ManifestError(
            f"{where}: its stage, version, parameters and inputs make the identity {made[:16]}, it says "
            f"{manifest.identity[:16]}; one of them was edited, or an earlier version of this program wrote it"
        )


def _records(folder: Path, manifest: Manifest) -> list[Record]:
    records = []
    for number, path in enumerate(layout.records(folder)):
        missing = folder / layout.record(number)
        if path != missing:
            raise ManifestError(f"{missing}: missing, and a later part has its record; run its stage again")
        try:
            record = strict.build(Record, json_file.read(path))
        except (OSError, ValueError) as error:
            raise ManifestError(f"{path}: not the record of a part ({error}); run its stage again") from None
        if (record.identity, record.number) != (manifest.identity, number):
            raise ManifestError(f"{path}: is of another step or part ({record.identity[:16]}, part {record.number})")
        records.append(record)
    return records


def _files(folder: Path, manifest: Manifest, records: Iterable[Record], scratch: Iterable[str]) -> None:
    where, named = folder / MANIFEST, {file.name: file for file in manifest.files}
    for record in records:
        for file in record.files:
            if named.get(file.name) != file:
                wrong = "names another" if file.name in named else "does not name"
                raise ManifestError(f"{where}: {wrong} {file.name}, which the record of part {record.number} lists")
    known = {*named, MANIFEST, layout.RUN, *(path.name for path in layout.records(folder))}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        ours = not name.startswith(".") and name.split("/")[0] not in scratch
        if ours and path.is_file() and name not in known:
            raise ManifestError(f"{where}: does not name {name}, which lies beside it")
    for file in manifest.files:
        _rows(folder, file)


def _rows(folder: Path, file: FileEntry) -> None:
    if file.rows is not None and file.name.endswith(".parquet"):
        rows = pq.read_metadata(folder / file.name).num_rows
        if rows != file.rows:
            raise ManifestError(f"{folder / MANIFEST}: {file.name} has {file.rows:,} rows in it, and {rows:,} in truth")
