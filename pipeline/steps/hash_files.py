"""The step `hash`: what the files of a folder are, as content: a list with the sha256 of each.

The step is named by the listing of the folder (names, sizes, times), and what reads the files is named by what comes
out: so a touched file is hashed again, and nothing else is done again. A few hundred files, or half a gigabyte, are a
task. What an earlier listing of the source knew of a file with the same size and times is not read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.filesize import decimal

from pipeline.graph.context import Context
from pipeline.graph.proof import same_facts, same_rows
from pipeline.graph.stage import Ending, Facts, Phase, Stage, Step
from pipeline.graph.task import Done, Job, Record
from pipeline.storage import layout
from pipeline.storage.part_reader import read
from pipeline.storage.part_writer import PartWriter
from schemas import json_file
from schemas.identity import fingerprint
from schemas.manifest import Counts, Manifest, ManifestError, hash_file
from stages import download, hash_files
from stages.hash_files import Unhashed, sha256_of
from stages.sources.listing import LISTING, Listed, path_of

_BYTES_PER_TASK = 512 << 20
_FILES_PER_TASK = 1024
_LISTING = "listing.parquet"


@dataclass(frozen=True, kw_only=True)
class HashJob(Job):
    """Rows [first, first + rows) of a listing, of files below `root`."""

    source: str
    root: str
    listing: str
    first: int
    rows: int


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    for name, source in {**data.sources, **data.benchmarks}.items():
        if not context.fetched(name):
            named = [list(found) for found in context.content.named(name)]
            parameters = {"files": source.files, "images": source.images, "listing": fingerprint(named)}
            yield Step(stage, name, parameters, source)


def _split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    folder, known = context.out / step.folder, _known(step, context)
    found = context.content.named(step.label)
    digests = [known.get(tuple(file)) for file in found]
    columns = [*map(list, zip(*found, strict=True)), digests] if found else [[], [], [], []]
    PartWriter(folder).write(_LISTING, LISTING, [pa.Table.from_arrays([pa.array(c) for c in columns], schema=LISTING)])
    unread = [0 if digest else file.size for file, digest in zip(found, digests, strict=True)]
    return [
        HashJob(
            amount=sum(unread[first:last]),
            parts=last - first,
            source=step.label,
            root=str(context.place(step.label)),
            listing=str(folder / _LISTING),
            first=first,
            rows=last - first,
        )
        for first, last in _shares([file.size for file in found])
    ]


def _shares(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of files for the tasks, in the order of the listing.

    By the listing alone, and not by what is known of the files: the records of a killed run speak of the same ranges.
    """
    first = held = 0
    for number, size in enumerate(sizes):
        if number > first and (number - first == _FILES_PER_TASK or held + size > _BYTES_PER_TASK):
            yield first, number
            first, held = number, 0
        held += size
    if sizes:
        yield first, len(sizes)


def _known(step: Step, context: Context) -> dict[tuple[Any, ...], str]:
    """(file, size, times) -> sha256, of all that was hashed for this source before."""
    paths = context.out.glob(f"{step.prefix}-{'[0-9a-f]' * 8}/hashes-*.parquet")
    rows = (row for path in sorted(paths) for row in _rows(path))
    return {(row["file"], row["size"], row["times"]): row["sha256"] for row in rows}


def _rows(path: Path) -> list[dict[str, Any]]:
    """An earlier listing; a damaged one knows nothing, and its files are hashed again."""
    try:
        rows: list[dict[str, Any]] = read(path, schema=LISTING).to_pylist()
    except ManifestError:
        return []
    return rows


def _do(job: HashJob, writer: PartWriter) -> Done:
    rows = read(job.listing, schema=LISTING).slice(job.first, job.rows).to_pylist()
    for row in rows:
        try:
            row["sha256"] = row["sha256"] or sha256_of(job.root, Listed(**row))
        except Unhashed as error:
            counts = Counts(len(rows), len(rows) - 1, {}, {error.reason: 1})
            return Done({job.source: counts}, problem=str(error))
    writer.write(f"hashes-{writer.number:05d}.parquet", LISTING, [pa.Table.from_pylist(rows, LISTING)])
    return Done({job.source: Counts(len(rows), len(rows))})


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    """The list of files by role, and their content as one hash."""
    names = [file.name for record in ending.records for file in record.files]
    tables = [read(ending.folder / name, ["file", "size", "sha256"]) for name in names]
    rows = pa.concat_tables(tables).to_pylist() if tables else []
    found = [download.Found(row["file"], row["size"], row["sha256"]) for row in rows]
    table = download.listing(found, ending.step.params)
    writer.write(layout.FILES, table.schema, [table])
    (ending.folder / _LISTING).unlink(missing_ok=True)
    unnamed = len(ending.context.content.found(ending.step.label)) - table.num_rows
    return Facts(
        facts={"content": _content(found)},
        circumstances={"files_not_named": unnamed, "place": str(ending.context.place(ending.step.label))},
        note=f"; {unnamed:,} files not named" if unnamed else "",
    )


def _verify(folder: Path, manifest: Manifest) -> None:
    """The list by role and the content are those of the files as they were hashed."""
    hashed = [file.name for file in manifest.files if layout.is_a("hashes", file.name)]
    rows = [row for name in hashed for row in read(folder / name, schema=LISTING).to_pylist()]
    found = [download.Found(row["file"], row["size"], row["sha256"]) for row in rows]
    same_facts(folder, manifest, {"content": _content(found)})
    listed = read(folder / layout.FILES, schema=download.FILES).to_pylist()
    same_rows(folder, "files", [(f["file"], f["size"], f["sha256"]) for f in listed], sorted(map(tuple, found)))


def _sources(folder: Path, manifest: Manifest) -> str:
    """Hash every file again where it was read: one that was edited in place is found, whatever its times say."""
    root = _place(folder)
    names = [file.name for file in manifest.files if layout.is_a("hashes", file.name)]
    rows = [row for name in names for row in read(folder / name, schema=LISTING).to_pylist()]
    wrong = [problem for row in rows if (problem := _differs(path_of(root, row["file"]), row["sha256"]))]
    if wrong:
        more = f"; and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        raise ManifestError(f"{wrong[0]}{more}; put it back, or run the recipe again; `touch` it if `plan` says done")
    return f"{root}: {len(rows):,} files, {decimal(sum(row['size'] for row in rows))}, are those that were hashed"


def _differs(path: Path, sha256: str) -> str:
    """What is wrong with a file that was hashed; "" if nothing is."""
    try:
        return "" if hash_file(path) == sha256 else f"{path}: its bytes are not those that were hashed"
    except OSError as error:
        return f"{path}: can't be read ({error.strerror})"


def _place(folder: Path) -> Path:
    """Where the files lay when they were hashed. Raises ManifestError."""
    try:
        found = json_file.read(folder / layout.RUN)
    except (OSError, ValueError):
        found = None
    place = found.get("place") if isinstance(found, dict) else None
    if not isinstance(place, str):
        raise ManifestError(f"{folder / layout.RUN}: does not say where the source lies; delete the folder and rerun")
    return Path(place)


def _content(found: Iterable[download.Found]) -> str:
    """What files are, as one hash."""
    return fingerprint([list(file) for file in found])


def _check(step: Step, manifest: Manifest, context: Context) -> None:
    """Every file that was listed is hashed, and counted once."""
    listed = len(context.content.named(step.label))
    if manifest.counts.kept != listed:
        raise ManifestError(f"{step.name}: {manifest.counts.kept:,} files hashed, {listed:,} listed")


def _much(step: Step, context: Context) -> str:
    """How much there is to hash, before it begins."""
    known = _known(step, context)
    sizes = [file.size for file in context.content.named(step.label) if tuple(file) not in known]
    return f"{len(sizes):,} files, {decimal(sum(sizes))} to hash"


HASH = Stage(
    name="hash",
    number=1,
    version=hash_files.VERSION,
    makes="files",
    reasons=hash_files.REASONS,
    steps=_steps,
    phases=(Phase(_split, _do, word="files", unit="bytes", failed="could not be hashed"),),
    absent="no source in a folder",
    named_by="content",
    finish=_finish,
    check=_check,
    verify=_verify,
    sources=_sources,
    content=lambda manifest: str(manifest.facts["content"]),
    much=_much,
)
