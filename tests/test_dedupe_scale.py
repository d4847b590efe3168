"""The benchmark of comparing, small: what it writes is what the phases of the pipeline take, and find duplicates in."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import dedupe_scale
from pipeline.storage.part_reader import read


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_every_phase_takes_what_the_one_before_left(tmp_path: Path, kind: str) -> None:
    run = dedupe_scale.Run(tmp_path, dedupe_scale.ROWS * dedupe_scale.WIDTH, kind)
    for phase in ("write", "found", "decide", "choice"):
        found = dedupe_scale.measured(run, phase)
        assert found.tasks == 1 and found.samples == run.samples and found.peak > 0
    pairs = read(tmp_path / "decide" / "pairs-00000.parquet", ["exact", "jaccard"])
    assert run.samples / 50 * 0.2 < pairs.num_rows < run.samples
    near = [row for row in pairs.to_pylist() if not row["exact"]]
    assert (kind == "texts") == any(row["jaccard"] is not None for row in near)
