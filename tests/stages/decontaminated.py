"""Samples and benchmarks -> the verdicts of decontaminate, without a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from stages.filters.decontaminate import DECONTAMINATE, DecontaminateParams, Index, load
from stages.stage import Assets


def indexed(params: DecontaminateParams, benchmarks: pa.Table | None) -> Index:
    """With the files of the benchmarks' images, of those that have some."""
    files = dict(zip(benchmarks["sample_id"].to_pylist(), _files(benchmarks), strict=True)) if benchmarks else {}

    def images(ids: Iterable[str]) -> Mapping[str, Sequence[bytes]]:
        return {name: files[name] for name in ids if files[name]}

    return load(params, Assets(benchmarks=benchmarks, images=images))


def decontaminated(samples: pa.Table, params: DecontaminateParams, index: Index) -> pa.Table:
    files = _files(samples)
    return DECONTAMINATE.verdicts(samples, params, (index, lambda rows: {row: files[row] for row in rows}))


def _files(samples: pa.Table) -> list[list[bytes]]:
    if "images" not in samples.column_names:
        return [[] for _ in range(samples.num_rows)]
    return [[image["bytes"] for image in images or []] for images in samples["images"].to_pylist()]
