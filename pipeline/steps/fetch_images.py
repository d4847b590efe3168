"""The step `fetch_images`: the images that rows of a source name by address, fetched; a status for every row.

A slice of rows is a task. What was fetched is content, which may be another tomorrow: so ingest is named by what this
step brought, and failures that may heal are asked again by every run until one brings nothing new. An image that can't
be fetched is a status, and ingest rejects its row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.graph.context import Context
from pipeline.graph.proof import same_facts, same_rows
from pipeline.graph.stage import Ending, Facts, Phase, Stage, Step, all_of, anything
from pipeline.graph.task import Done, Job, Record
from pipeline.net import fetch_many
from pipeline.net.fetch_many import Crowd
from pipeline.net.http_client import Patience, Web
from pipeline.steps import record_slices
from pipeline.steps.source_files import source_files
from pipeline.storage import layout
from pipeline.storage.part_reader import read
from pipeline.storage.part_writer import PartWriter
from schemas import json_file
from schemas.identity import fingerprint
from schemas.manifest import Counts, Manifest
from stages import fetch_images
from stages.fetch_images import HEALING, REFUSED
from stages.sources.declaration import UrlColumn
from stages.sources.listing import Listed, path_of, unchanged
from stages.sources.records.slices import Slice
from stages.sources.records.slices import read as read_slice

_ROWS_PER_PACK = 1024


@dataclass(frozen=True, kw_only=True)
class AskJob(Job):
    """A slice of records with addresses, and how they are asked. `root`: the folder of the source's files; `listed`:
    the slice's own."""

    root: str
    listed: Listed
    source: str
    slice: Slice
    column: UrlColumn
    allowed: tuple[str, ...]
    patience: Patience
    crowd: Crowd


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    for name, source in {**data.sources, **data.benchmarks}.items():
        if source.urls:
            yield Step(stage, name, asdict(source.urls), source, all_of(before, "files", [name]))


def _split(step: Step, context: Context, cut: Sequence[Record]) -> list[Job]:
    files, run, column = source_files(step.making("files")[0], context), context.recipe.run, step.params.urls
    patience = fetch_many.patience(run.patience, column)
    records = {file.file: file for file in files.records}
    return [
        AskJob(
            amount=part.rows,
            root=str(files.root),
            listed=records[part.file],
            source=step.label,
            slice=part,
            column=column,
            allowed=run.allow_hosts,
            patience=patience,
            crowd=run.crowd,
        )
        for part in record_slices.parts(step, context, cut, _ROWS_PER_PACK, spread=False)
    ]


def _do(job: AskJob, writer: PartWriter) -> Done:
    file = job.slice.file
    needed = (job.column.column, job.column.sha256).__contains__
    with unchanged(job.root, [job.listed]):
        records = read_slice(path_of(job.root, file), job.slice, wanted=needed)
        rows = fetch_many.rows(records, file, job.column)
    web = Web(job.allowed, job.patience)
    reasons = fetch_many.collect(rows, writer.folder, writer.number, job.column, web, job.crowd)
    web.close()
    counts = Counts(len(rows), len(rows) - reasons.total(), {}, dict(sorted(reasons.items())))
    writer.add(f"images-{writer.number:05d}.pack")
    writer.add(f"status-{writer.number:05d}.parquet", len(rows))
    return Done({job.source: counts})


def _keep(_: AskJob, record: Record) -> bool:
    return not (HEALING | REFUSED) & set(record.counts.rejected)


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    """Whether asking changed anything, and which hosts were allowed: `_again` reads it."""
    files = tuple(file for record in ending.records for file in record.files)
    news = ending.before is None or ending.before.files != files
    return Facts(circumstances={"news": news, "allow_hosts": sorted(ending.context.recipe.run.allow_hosts)})


def _verify(folder: Path, manifest: Manifest) -> None:
    """The ledger is that of the statuses."""
    names = [file.name for file in manifest.files if layout.is_a("status", file.name)]
    reasons = [reason for name in names for reason in read(folder / name, ["reason"])["reason"].to_pylist()]
    failed = Counter(reason for reason in reasons if reason is not None)
    same_facts(folder, manifest, {})
    same_rows(folder, "counts", manifest.counts, Counts(len(reasons), len(reasons) - failed.total(), {}, dict(failed)))


def _again(step: Step, manifest: Manifest, context: Context, asked: bool) -> str:
    """Failures that may have healed are asked again by every run until one brings nothing new, else dead addresses
    would cost every later run the same waiting. What was refused here is asked again when other hosts are allowed.
    `asked`: ask even then.
    """
    run = _circumstances(context.out / step.folder)
    refused = bool(REFUSED & set(manifest.counts.rejected))
    allowed = run.get("allow_hosts") != sorted(context.recipe.run.allow_hosts)
    due = (_may_heal(manifest) > 0 and (asked or run.get("news", True))) or (refused and (asked or allowed))
    return "some addresses failed in a way that may have healed" if due else ""


def _remark(step: Step, manifest: Manifest) -> str:
    failed = _may_heal(manifest)
    how = f"`python -m pipeline {step.stage.name} RECIPE` asks again"
    return f"{failed:,} rows failed that may heal, the last try healed none; {how}" if failed else ""


def _may_heal(manifest: Manifest) -> int:
    """How many rows failed in a way that another try may mend."""
    return sum(count for reason, count in manifest.counts.rejected.items() if reason in HEALING)


def _circumstances(folder: Path) -> dict[str, Any]:
    """run.json; nothing where it is lost or broken, for no result depends on it."""
    try:
        found = json_file.read(folder / layout.RUN)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


FETCH_IMAGES = Stage(
    name="fetch_images",
    number=1,
    version=fetch_images.VERSION,
    makes="images",
    reasons=fetch_images.REASONS,
    steps=_steps,
    phases=(record_slices.phase(lambda step: _ROWS_PER_PACK), Phase(_split, _do, keep=_keep)),
    absent="no source with urls",
    named_by="content",
    finish=_finish,
    check=anything,
    verify=_verify,
    again=_again,
    remark=_remark,
    content=lambda manifest: fingerprint({file.name: file.sha256 for file in manifest.files}),
)
