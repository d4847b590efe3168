"""The step `ingest`: the records of one source become samples and rejects; a slice of a record file is a task."""

from __future__ import annotations

import functools
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.graph.context import Context
from pipeline.graph.proof import same_facts, same_rows
from pipeline.graph.stage import Ending, Facts, Phase, Stage, Step, all_of, anything
from pipeline.graph.task import Done, Job, Record, records_in
from pipeline.steps import record_slices, scored, unread
from pipeline.steps.source_files import SourceFiles, source_files
from pipeline.storage import layout
from pipeline.storage.commit import commit
from pipeline.storage.part_reader import read
from pipeline.storage.part_writer import PartWriter
from schemas.manifest import Counts, Manifest
from schemas.sample import REJECT, SAMPLE
from schemas.strict import RecipeError
from stages import ingest
from stages.cells import CELLS, COLUMNS, added, declared, told
from stages.fetch_images import Packs
from stages.ingest import Ingested, IngestParams
from stages.sources import column_check, image_check
from stages.sources.archives.image_files import ImageFiles, Place, places
from stages.sources.declaration import Source
from stages.sources.listing import Listed, Listing, check, path_of, save, unchanged
from stages.sources.one_record import wanted
from stages.sources.records.slices import Slice
from stages.sources.records.slices import read as read_slice
from stages.sources.records.streams import DataError

_LISTING = "listing-{}.arrow"  # by the step that listed the files: another run's may be another
_RATED = ("scores", "turn_scores")  # SAMPLE's columns of ratings; a fact by this name tells their names


@dataclass(frozen=True, kw_only=True)
class IngestJob(Job):
    """A slice of records. `root`: the folder of the source's files; `listed`: the slice's own; `packs`: the folder of
    fetched images; `images`: where image names lead; `listing`: of the files in folders of images."""

    root: str
    listed: Listed
    name: str
    source: Source
    params: IngestParams
    slice: Slice
    images: tuple[Place, ...]
    listing: str
    packs: str | None


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    for name, source in {**data.sources, **data.benchmarks}.items():
        own = asdict(source)
        del own["hub"], own["urls"], own["follow_links"]
        own["ignore"] = source.unasked
        own[scored.PARAMETER] = own.pop("scoring") is not None
        resolved = {"columns": source.column_map, "prompt": source.reading.prompt, "name": name}
        inputs = (*all_of(before, "files", [name]), *all_of(before, "images", [name] if source.urls else []))
        yield Step(stage, name, {**own, **resolved, **asdict(data.ingest)}, (source, data.ingest), inputs)


def _rows_per_part(step: Step) -> int:
    return int(step.params[1].rows_per_part)


def _split(step: Step, context: Context, cut: Sequence[Record]) -> list[Job]:
    source, params = step.params
    files = source_files(step.making("files")[0], context)
    images = tuple(places(files.root, source.image_patterns, files.files))
    listing = context.out / step.folder / _LISTING.format(step.making("files")[0].identity[:8])
    listed = files.files if any(place.folder is not None for place in images) else []
    commit(listing, lambda temporary: save(listed, temporary))
    found = record_slices.parts(step, context, cut, _rows_per_part(step), spread=True)
    by_file = itertools.groupby(found, key=lambda part: part.file)
    cut_files = [(path_of(files.root, file), list(parts)) for file, parts in by_file]
    _check_columns(step, files, cut_files)
    if source.urls is None:
        _check_images(step, context, images, image_check.named(source, cut_files))
    packs = next((str(context.out / fetched.folder) for fetched in step.making("images")), None)
    given = functools.partial(
        IngestJob,
        root=str(files.root),
        name=step.label,
        source=source,
        params=params,
        images=images,
        listing=str(listing),
        packs=packs,
    )
    records = {file.file: file for file in files.records}
    return [given(amount=part.rows, slice=part, listed=records[part.file]) for part in found]


def _check_columns(step: Step, files: SourceFiles, cut_files: Sequence[tuple[Path, list[Slice]]]) -> None:
    """Raise RecipeError for a column that isn't there, or Changed if that is because the files are others by now."""
    try:
        column_check.check(step.label, step.params[0], cut_files)
    except (RecipeError, DataError, OSError):
        check(files.root, files.records)
        raise


def _check_images(step: Step, context: Context, images: tuple[Place, ...], names: Sequence[str]) -> None:
    """Say why no image can be found; many that are all missing are a wrong recipe and end the run before it begins."""
    everything = [file.file for file in context.content.found(step.label)]
    if problem := image_check.problem(names, images, everything):
        line = f"data.sources.{step.label}.images: {problem}"
        if len(names) >= image_check.ENOUGH:
            raise RecipeError(line)
        print(f"note: {line}", file=sys.stderr)


def _do(job: IngestJob, writer: PartWriter) -> Done:
    """One part. Raises Changed where a file is not what was listed."""
    archives = [file for place in job.images for file in place.listed]
    with unchanged(job.root, [job.listed, *archives]):
        return _ingested(job, writer)


def _ingested(job: IngestJob, writer: PartWriter) -> Done:
    counts, rejects, cells = [], [], []
    rated: dict[str, set[str]] = {column: set() for column in _RATED}
    passed = unread.of_file(path_of(job.root, job.slice.file), job.slice.rows, job.source)

    def samples() -> Iterator[pa.Table]:
        for piece in _pieces(job):
            counts.append(piece.counts)
            rejects.append(piece.rejects)
            passed.update(piece.unread)
            for column, names in rated.items():
                names.update(_names(piece.samples[column]))
            cells.append(declared(piece.samples))
            yield piece.samples

    writer.write(layout.part(writer.number), SAMPLE, samples())
    writer.write(layout.rejected(writer.number), REJECT, [pa.concat_tables(rejects).combine_chunks()])
    total = sum(counts, Counts())
    if total.rows_in != job.slice.rows:
        raise ValueError(f"{job.slice.file}: {total.rows_in} rows read, {job.slice.rows} listed; run again")
    facts = {column: sorted(names) for column, names in rated.items()}
    return Done({job.name: total}, {**facts, CELLS: added(cells), "unread": unread.counted([passed])})


def _names(rated: pa.ChunkedArray) -> list[str]:
    """The names of the ratings in a column of theirs."""
    return list(rated.combine_chunks().flatten().field("name").to_pylist())


def _pieces(job: IngestJob) -> Iterator[Ingested]:
    file, params = job.slice.file, job.params
    path = path_of(job.root, file)
    records = read_slice(path, job.slice, params.limits, functools.partial(wanted, source=job.source))
    if job.packs is None:
        images = _image_files(job.images, params.max_image_bytes, job.listing)
        return ingest.ingest(records, job.name, file, job.source, images, params)
    packs = Packs(Path(job.packs), job.slice)
    return ingest.ingest(packs.follow(records), job.name, file, job.source, packs, params)


@functools.lru_cache(maxsize=4)
def _image_files(places: tuple[Place, ...], max_bytes: int, listing: str) -> ImageFiles:
    """Where images lie: an archive's headers are walked once in a worker. A changed source has another listing."""
    return ImageFiles(places, max_bytes, Listing.open(listing))


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    """Every name that some sample is rated under; every column that was not read, with how many rows have it."""
    for path in ending.folder.glob(_LISTING.format("*")):
        path.unlink()
    passed = unread.counted(record.facts["unread"] for record in ending.records)
    unknown = unread.told(passed, ending.step.params[0])
    rated = {column: sorted({n for record in ending.records for n in record.facts[column]}) for column in _RATED}
    rejected = sum((record.counts for record in ending.records), Counts())
    missing = rejected.rejected.get("image_missing", 0)
    lost = (
        f"{missing:,} rows name images that are not there: is `images` right?" if 2 * missing > rejected.rows_in else ""
    )
    note = "".join(f"; {text}" for text in (lost, unknown) if text)
    cells = told(record.facts.get(CELLS, []) for record in ending.records)
    return Facts({**rated, CELLS: cells, "unread": passed, **scored.fact(ending.step, ending.context)}, note=note)


def _verify(folder: Path, manifest: Manifest) -> None:
    """Samples, rejects and the names of ratings are those of the parts."""
    names = [file.name for file in manifest.files]
    parts = [read(folder / name, [*_RATED, *COLUMNS]) for name in names if layout.is_a("part", name)]
    rejected = [read(folder / name, schema=REJECT)["reason"] for name in names if layout.is_a("rejected", name)]
    rated = {column: sorted({name for part in parts for name in _names(part[column])}) for column in _RATED}
    reasons = Counter(reason for column in rejected for reason in column.to_pylist())
    passed = unread.counted(record.facts["unread"] for record in records_in(folder, manifest.identity))
    found = {**rated, CELLS: told(map(declared, parts)), "unread": passed, **scored.told(folder, manifest)}
    same_facts(folder, manifest, found)
    same_rows(folder, "samples", manifest.counts.kept, sum(part.num_rows for part in parts))
    same_rows(folder, "rejects", Counter(manifest.counts.rejected), reasons)


INGEST = Stage(
    name="ingest",
    number=2,
    version=ingest.VERSION,
    makes="samples",
    reasons=ingest.REASONS,
    steps=_steps,
    phases=(record_slices.phase(_rows_per_part), Phase(_split, _do)),
    finish=_finish,
    check=anything,
    again=scored.again,
    notice=unread.notice,
    verify=_verify,
)
