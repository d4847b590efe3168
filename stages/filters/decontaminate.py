"""Drop samples that show a benchmark's image, so that evaluation measures something.

Benchmarks are sources of their own in the recipe, ingested like the others. A sample is contaminated if any of its
images has the bytes of a benchmark image or matches one by sight (stages/filters/image_match.py), whatever the
question.

Reads image_info. Evidence: the benchmark sample that shows the image, and the Hamming distance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from stages.filters.image_match import Match, Pictures, distinct, nearest
from stages.stage import Assets, Filter


@dataclass(frozen=True)
class DecontaminateParams:
    """When a picture counts as a benchmark's."""

    match: Match = field(default_factory=Match)


REASONS = {"benchmark_image": "shows an image of a benchmark"}

EVIDENCE = pa.schema([("benchmark_id", pa.string()), ("distance", pa.int32())])


class Index(NamedTuple):
    """The benchmarks' images: their hashes with who shows them, and their pictures, of those that look the same one."""

    sample_ids: list[str]
    by_sha256: dict[str, str]
    pictures: Pictures


def load(params: DecontaminateParams, assets: Assets) -> Index:
    """Index the benchmark samples (sample_id, image_info)."""
    rows = [] if assets.benchmarks is None else assets.benchmarks.select(["sample_id", "image_info"]).to_pylist()
    images = [(row["sample_id"], info) for row in rows for info in row["image_info"]]
    by_sha256: dict[str, str] = {}
    for sample_id, info in images:
        by_sha256.setdefault(info["sha256"], sample_id)
    pictures = Pictures.of([info for _, info in images])
    firsts, _ = distinct([pictures])
    return Index([images[row][0] for row in firsts.tolist()], by_sha256, pictures.take(firsts))


def judge(table: pa.Table, params: DecontaminateParams, index: Index) -> tuple[list[str | None], pa.Table]:
    """Verdicts for the samples of one part; `table` has image_info."""
    infos = table["image_info"].to_pylist()
    owners = [row for row, images in enumerate(infos) for _ in images]
    leaks: dict[int, tuple[str, int]] = {}
    for row, hit in zip(owners, _hits([info for images in infos for info in images], index, params.match), strict=True):
        if hit is not None and (row not in leaks or hit[1] < leaks[row][1]):
            leaks[row] = hit
    rows = [leaks.get(row) for row in range(len(infos))]
    evidence = pa.table([[hit and hit[0] for hit in rows], [hit and hit[1] for hit in rows]], schema=EVIDENCE)
    return ["benchmark_image" if hit else None for hit in rows], evidence


def _hits(images: list[dict[str, Any]], index: Index, match: Match) -> list[tuple[str, int] | None]:
    """Per image the nearest benchmark sample and its distance, or None."""
    pictures = Pictures.of(images)
    firsts, which = distinct([pictures])
    best, bits = (column[which].tolist() for column in nearest(pictures.take(firsts), index.pictures, match))
    hits: list[tuple[str, int] | None] = []
    for info, other, distance in zip(images, best, bits, strict=True):
        same = index.by_sha256.get(info["sha256"])
        hits.append((same, 0) if same is not None else None if other < 0 else (index.sample_ids[other], distance))
    return hits


DECONTAMINATE = Filter(
    name="decontaminate",
    version=1,
    params=DecontaminateParams,
    reasons=REASONS,
    columns=("image_info",),
    evidence=EVIDENCE,
    tells_of_kept=False,
    judge=judge,
    load=load,
    against_benchmarks=True,
)
