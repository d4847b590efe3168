"""Raw records -> SAMPLE rows and REJECT rows: the one time images are decoded.

Per record: the source's adapter makes a draft, every image is found, proven whole, measured and hashed
(stages/images/rules.py), and the original bytes are kept. What can't become a sample is a reject with a reason and what
was seen. Rows in = samples + rejects, checked here. A part comes in pieces, so that its size is no matter of memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from schemas.manifest import Counts
from schemas.sample import REJECT, SAMPLE, sample_id
from stages.images import rules
from stages.images.rules import BadImage
from stages.sources.archives.image_files import ImageFiles
from stages.sources.declaration import Source
from stages.sources.one_record import adapted, unread
from stages.sources.records.streams import Limits
from stages.sources.shapes import draft
from stages.sources.shapes.draft import BadRow, Draft, ImageRef
from stages.stage import check_reasons, grouped

VERSION = 10

REASONS = {**draft.REASONS, **rules.REASONS}

_INFO_BYTES = 2048  # what describes an image, beside its bytes
_BLOCK_BYTES = 1024  # a turn or a piece of one, beside its text


@dataclass(frozen=True)
class IngestParams:
    """Parts, and the caps above which a row is a reject.

    rows_per_part     input rows of one part, the unit of work and of resuming
    max_pixels        of one image
    max_image_bytes   of one image, as a file
    max_text_bytes    of the text of one row, or of the JSON that it stands in
    max_row_bytes     of one row with all of its images; a worker may take nine times this (see benchmarks, `rows`)
    """

    rows_per_part: int = 1024
    max_pixels: int = 100_000_000
    max_image_bytes: int = Limits.image
    max_text_bytes: int = Limits.text
    max_row_bytes: int = Limits.row

    def __post_init__(self) -> None:
        if min(astuple(self)) < 1:
            raise ValueError(f"every number of ingest must be at least 1, got {self}")

    @property
    def limits(self) -> Limits:
        return Limits(self.max_image_bytes, self.max_text_bytes, self.max_row_bytes)


@dataclass(frozen=True)
class Ingested:
    """A piece of a part: samples (one row group), rejects and their ledger.

    `unread`: in how many of the samples' rows something stands that nobody reads, by its name.
    """

    samples: pa.Table
    rejects: pa.Table
    counts: Counts
    unread: Counter[str]


Look = Callable[[bytes, int], dict[str, Any]]
"""What is recorded of an image file, given the most pixels that it may have. Raises BadImage."""


def proven(data: bytes, max_pixels: int) -> dict[str, Any]:
    """All of SAMPLE's `image_info`, of an image that is whole."""
    return vars(rules.inspect(data, max_pixels))


def measured(data: bytes, max_pixels: int) -> dict[str, Any]:
    """The size that its header says, and nothing else: for a census of what was never ingested."""
    width, height = rules.measure(data, max_pixels)
    return {"width": width, "height": height}


class _Outcome(NamedTuple):
    """What became of one record: a sample of so many bytes, or a reject. `unread`: what of it nobody reads."""

    row: dict[str, Any]
    size: int | None
    unread: set[str]


def ingest(
    records: Iterable[tuple[int, Any]],
    name: str,
    file: str,
    source: Source,
    files: ImageFiles,
    params: IngestParams,
    look: Look = proven,
) -> Iterator[Ingested]:
    """Turn (row, record) pairs of one file into samples and rejects, piece by piece; at least one."""
    for group in grouped(_outcomes(records, name, file, source, files, params, look), lambda outcome: outcome.size):
        samples = [outcome.row for outcome in group if outcome.size is not None]
        rejects = [outcome.row for outcome in group if outcome.size is None]
        reasons = Counter(reject["reason"] for reject in rejects)
        check_reasons(reasons, REASONS, "ingest")
        counts = Counts(len(group), len(samples), {}, dict(sorted(reasons.items())))
        passed = Counter(name for outcome in group for name in outcome.unread)
        yield Ingested(pa.Table.from_pylist(samples, SAMPLE), pa.Table.from_pylist(rejects, REJECT), counts, passed)


def _outcomes(
    records: Iterable[tuple[int, Any]],
    name: str,
    file: str,
    source: Source,
    files: ImageFiles,
    params: IngestParams,
    look: Look,
) -> Iterator[_Outcome]:
    for row, record in records:
        outcome = _outcome(row, record, name, file, source, files, params, look)
        del record  # before the next one is read: either may be large
        yield outcome


def _outcome(
    row: int,
    record: Any,
    name: str,
    file: str,
    source: Source,
    files: ImageFiles,
    params: IngestParams,
    look: Look,
) -> _Outcome:
    origin = {"sample_id": sample_id(name, file, row), "source": name}
    try:
        sample, size = _sample(record, file, name, source, files, params, look)
        return _Outcome({**origin, **sample}, size, unread(record, source))
    except (BadRow, BadImage) as bad:
        # What was seen may have no UTF-8 (names in archives, lone surrogates in JSON)
        detail = bad.detail[:500].encode("utf-8", "backslashreplace").decode("utf-8")
        return _Outcome({**origin, "file": file, "row": row, "reason": bad.reason, "detail": detail}, None, set())


def _sample(
    record: Any, file: str, name: str, source: Source, files: ImageFiles, params: IngestParams, look: Look
) -> tuple[dict[str, Any], int]:
    """A sample's fields beside its origin, and its bytes. Raises BadRow, BadImage."""
    if isinstance(record, BadRow):
        raise record
    found = adapted(record, source)
    text = draft.check(found)
    if text > params.max_text_bytes:
        raise BadRow("row_too_large", f"{text:,} bytes of text, at most {params.max_text_bytes:,}")
    blocks = sum(1 + len(message["content"]) for message in found.messages)
    opened, size = _images(found, text + _BLOCK_BYTES * blocks, files, params, look)
    return {
        "subset": file.split("/")[0] if "/" in file else name,
        "licence": found.licence or source.licence,
        "messages": found.messages,
        "images": [stored for stored, _ in opened],
        "image_info": [info for _, info in opened],
        "scores": _scores(found),
        "turn_scores": [{"name": name, "values": values} for name, values in sorted(found.turn_scores.items())],
        "declared_language": found.declared_language,
        "references": found.references,
        "choices": found.choices,
        "category": found.category,
    }, size


_Opened = list[tuple[dict[str, Any], dict[str, Any]]]


def _images(found: Draft, size: int, files: ImageFiles, params: IngestParams, look: Look) -> tuple[_Opened, int]:
    """Every image with its description, and the bytes of the row whose text has `size`."""
    opened: _Opened = []
    if size > params.max_row_bytes:
        turns = f"{len(found.messages):,} turns"
        raise BadRow("row_too_large", f"{size:,} bytes with {turns}, at most {params.max_row_bytes:,}")
    for ref in found.images:
        stored, info = _image(ref, files, params, look)
        size += len(stored["bytes"]) + _INFO_BYTES
        if size > params.max_row_bytes:
            many = f"{len(opened) + 1} of {len(found.images)} images"
            raise BadRow("row_too_large", f"{size:,} bytes with {many}, at most {params.max_row_bytes:,}")
        opened.append((stored, info))
    return opened, size


def _image(ref: ImageRef, files: ImageFiles, params: IngestParams, look: Look) -> tuple[dict[str, Any], dict[str, Any]]:
    if ref.data is None and ref.path is None:
        raise BadImage("image_missing", "neither bytes nor a path")
    data = ref.data if ref.data is not None else files.read(ref.path or "")
    if len(data) > params.max_image_bytes:
        raise BadImage("image_too_large", f"{len(data):,} bytes, at most {params.max_image_bytes:,}")
    return {"bytes": data, "path": ref.path}, look(data, params.max_pixels)


def _scores(found: Draft) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in sorted(found.scores.items())]
