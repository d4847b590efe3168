"""A census of data that was never ingested: records as the recipe declares them, sizes of images from their headers.

The path is ingest's own, with the same rejects; only that no pixel is decoded and nothing is written. So an image whose
header is whole and whose picture is damaged counts here, and would be a reject there.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from pipeline.commands.census.found import Found
from pipeline.commands.census.ingested import ModelAt, Opened, model_at, shards_of
from pipeline.commands.census.pool import each
from pipeline.graph.context import Context
from pipeline.graph.errors import MissingInput
from pipeline.graph.stage import Step
from pipeline.steps.source_files import source_files
from schemas.identity import fingerprint
from schemas.manifest import Counts, ManifestError
from schemas.strict import RecipeError
from stages import ingest
from stages.census import Tally, count
from stages.download import role
from stages.ingest import IngestParams
from stages.sources import column_check
from stages.sources.archives.image_files import ImageFiles, Place, places
from stages.sources.declaration import Source
from stages.sources.listing import Listed, Listing, path_of, save
from stages.sources.one_record import wanted
from stages.sources.records.slices import Slice, read, slices
from stages.sources.records.streams import DataError

BASIS = "raw files, image sizes by their headers: no image was proven whole, no filter was asked"
_ROWS = 1024
_NARROW = ("sample_id", "source", "messages", "declared_language", "image_info")


@dataclass(frozen=True)
class Raw:
    """A source as it lies there: what makes its samples. `listing`: a file that knows those in folders of images."""

    name: str
    root: str
    source: Source
    params: IngestParams
    images: tuple[Place, ...]
    listing: str
    models: tuple[ModelAt, ...] = ()


@dataclass(frozen=True)
class FileJob:
    """A file of records, to be cut into slices."""

    raw: Raw
    file: str


@dataclass(frozen=True)
class SliceJob:
    """Some of its records, to be counted."""

    raw: Raw
    slice: Slice


def census(recipes: Sequence[Opened], found: Sequence[Found], workers: int | None, scratch: Path) -> None:
    """Fill in what was found of each recipe. Raises MissingInput for a source whose files are not here yet.

    `scratch`: a folder for listings.
    """
    raws: dict[str, Raw] = {}
    files: dict[str, list[str]] = {}
    for number, (opened, one) in enumerate(zip(recipes, found, strict=True)):
        one.basis = BASIS
        model = model_at(number, opened)
        for step in shards_of(opened).making("samples"):
            raw, key, records = _raw(step, opened[0], scratch)
            known = raws.setdefault(key, raw)
            raws[key] = replace(known, models=(*known.models, model))
            files[key] = records
            one.rejected[raw.name] = {}
    jobs = [FileJob(raws[key], file) for key, named in files.items() for file in named]
    cut = sorted(
        (job for some in each(cut_file, jobs, workers) for job in some),
        key=lambda job: (job.raw.name, job.raw.listing, job.slice.file, job.slice.first),
    )
    _check_columns(cut)
    for name, rejected, counted in each(count_slice, cut, workers):
        for number, tally in counted:
            found[number].tally.add(tally)
            mine = found[number].rejected
            mine[name] = dict(sorted((Counter(mine[name]) + Counter(rejected)).items()))


def cut_file(job: FileJob) -> list[SliceJob]:
    """The slices of a file; in a worker. Raises DataError."""
    found = slices(path_of(job.raw.root, job.file), job.file, min(_ROWS, job.raw.params.rows_per_part))
    return [SliceJob(job.raw, part) for part in found]


def count_slice(job: SliceJob) -> tuple[str, dict[str, int], list[tuple[int, Tally]]]:
    """The source, its rejects by reason, and the tally under each recipe by its number; in a worker. Raises
    DataError, ManifestError."""
    raw, ledger = job.raw, Counts()

    def samples() -> Iterator[pa.Table]:
        nonlocal ledger
        for piece in _pieces(job):
            ledger += piece.counts
            yield piece.samples.select(_NARROW)

    tallies, counted = count(samples(), [model.opened() for model in raw.models])
    if (ledger.rows_in, ledger.kept) != (job.slice.rows, counted):
        raise ManifestError(f"{job.slice.file}: {job.slice.rows:,} rows, {ledger} and {counted:,} counted; run again")
    named = [(model.number, tally) for model, tally in zip(raw.models, tallies, strict=True)]
    return raw.name, ledger.rejected, named


def _pieces(job: SliceJob) -> Iterator[ingest.Ingested]:
    raw, file = job.raw, job.slice.file
    records = read(path_of(raw.root, file), job.slice, raw.params.limits, functools.partial(wanted, source=raw.source))
    images = _image_files(raw.images, raw.params.max_image_bytes, raw.listing)
    return ingest.ingest(records, raw.name, file, raw.source, images, raw.params, ingest.measured)


@functools.lru_cache(maxsize=4)
def _image_files(found: tuple[Place, ...], max_bytes: int, listing: str) -> ImageFiles:
    return ImageFiles(found, max_bytes, Listing.open(listing))


def _check_columns(jobs: Sequence[SliceJob]) -> None:
    """Raise RecipeError for a column that isn't there: it would reject every row."""
    for _, of_source in groupby(jobs, key=lambda job: (job.raw.name, job.raw.listing)):
        mine = list(of_source)
        files = groupby(mine, key=lambda job: job.slice.file)
        cut = [(path_of(mine[0].raw.root, file), [job.slice for job in some]) for file, some in files]
        column_check.check(mine[0].raw.name, mine[0].raw.source, cut)


def _raw(step: Step, context: Context, scratch: Path) -> tuple[Raw, str, list[str]]:
    """A source, what tells it from another recipe's of that name, and its files of records."""
    source, params = step.params
    if source.urls is not None:
        raise RecipeError(
            f"data.sources.{step.label}.urls: images by address have no header here; "
            f"run `python -m pipeline {step.stage.name} RECIPE` and count without --from"
        )
    root, listed, records = _files(step, context)
    try:
        images = tuple(places(root, source.image_patterns, listed))
    except DataError as error:
        raise RecipeError(f"data.sources.{step.label}.images: {error}") from None
    key = fingerprint({"parameters": step.parameters, "root": str(root)})
    listing = scratch / f"{key}.arrow"
    save(listed if any(place.folder is not None for place in images) else [], listing)
    return Raw(step.label, str(root), source, params, images, str(listing)), key, [file.file for file in records]


def _files(step: Step, context: Context) -> tuple[Path, list[Listed], list[Listed]]:
    """Where a source's files lie, all that it names, and those that hold records."""
    lister = step.making("files")[0]
    if context.manifest(lister) is not None:
        known = source_files(lister, context)
        return known.root, known.files, known.records
    if context.fetched(step.label):
        raise MissingInput(f"{lister.name} is not finished; run `python -m pipeline {lister.stage.name} RECIPE` first")
    root, named = context.place(step.label), context.content.named(step.label)
    listed = [Listed(file.file, file.size, file.digest) for file in named]
    source: Source = step.params[0]
    return root, listed, [file for file in listed if role(file.file, source) == "records"]
