"""Raw records -> SAMPLE rows and REJECT rows: the one time images are decoded.

Per record: the source's adapter makes a draft, every image is found, proven whole, measured and hashed
(stages/images.py), and the original bytes are kept. What can't become a sample is a reject with a reason and what was
seen. Rows in = samples + rejects, checked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.manifest import Counts
from schemas.sample import REJECT, SAMPLE, sample_id
from stages import images
from stages.images import BadImage
from stages.sources import draft
from stages.sources.archive import ImageFiles
from stages.sources.catalogue import FORMATS, Source
from stages.sources.draft import BadRow, Draft, ImageRef
from stages.stage import check_reasons

VERSION = 3

REASONS = {**draft.REASONS, **images.REASONS}


@dataclass(frozen=True)
class IngestParams:
    """`rows_per_part`: input rows of one part, the unit of work and of resuming; `max_pixels`: cap per image."""

    rows_per_part: int = 1024
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if self.rows_per_part < 1 or self.max_pixels < 1:
            raise ValueError(f"rows_per_part and max_pixels must be at least 1, got {self}")


@dataclass(frozen=True)
class Ingested:
    """One part: samples, rejects and their ledger."""

    samples: pa.Table
    rejects: pa.Table
    counts: Counts


def ingest(
    records: Iterable[tuple[int, Any]], name: str, file: str, source: Source, files: ImageFiles, params: IngestParams
) -> Ingested:
    """Turn (row, record) pairs of one file into samples and rejects."""
    samples: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    rows = 0
    for row, record in records:
        rows += 1
        origin = {"sample_id": sample_id(name, file, row), "source": name}
        try:
            samples.append({**origin, **_sample(record, file, name, source, files, params)})
        except (BadRow, BadImage) as bad:
            # What was seen may have no UTF-8 (names in archives, lone surrogates in JSON)
            detail = bad.detail[:500].encode("utf-8", "backslashreplace").decode("utf-8")
            rejects.append({**origin, "file": file, "row": row, "reason": bad.reason, "detail": detail})
    reasons = Counter(reject["reason"] for reject in rejects)
    check_reasons(reasons, REASONS, "ingest")
    counts = Counts(rows, len(samples), {}, dict(sorted(reasons.items())))
    return Ingested(pa.Table.from_pylist(samples, SAMPLE), pa.Table.from_pylist(rejects, REJECT), counts)


def _sample(
    record: Any, file: str, name: str, source: Source, files: ImageFiles, params: IngestParams
) -> dict[str, Any]:
    if isinstance(record, BadRow):
        raise record
    fields = draft.mapping(record, "the record")
    found = FORMATS[source.format].adapt(fields, source.reading)
    found.scores |= draft.ratings(fields, source.scores)
    draft.check(found)
    opened = [_image(ref, files, params.max_pixels) for ref in found.images]
    return {
        "subset": file.split("/")[0] if "/" in file else name,
        "licence": found.licence or source.licence,
        "messages": found.messages,
        "images": [stored for stored, _ in opened],
        "image_info": [info for _, info in opened],
        "scores": _scores(found),
        "declared_language": found.declared_language,
    }


def _image(ref: ImageRef, files: ImageFiles, max_pixels: int) -> tuple[dict[str, Any], dict[str, Any]]:
    if ref.data is None and ref.path is None:
        raise BadImage("image_missing", "neither bytes nor a path")
    data = ref.data if ref.data is not None else files.read(ref.path or "")
    return {"bytes": data, "path": ref.path}, vars(images.inspect(data, max_pixels))


def _scores(found: Draft) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in sorted(found.scores.items())]
