"""What it takes to plan a run: from the index of so many samples to all of its steps.

    python -m benchmarks.plan [--rows 33400000] [--cases NAME ...]

An index is made up in the sizes of a large corpus: 185 subsets of very different sizes in two sources, lengths
log-normal around 1,800 tokens of at most 4,096, up to 13 tiles. Each case is measured in a process of its own:

  plain    one epoch over everything, batches of 1,113 samples
  tokens   the same in steps of 2,000,000 tokens
  natural  a mixture by subset, one epoch of all of it
  weights  185 weights of tokens, 60,000 steps of 256 samples
  single   the same, half of the steps of one subset each

  read     the index, from the file
  plan     until the first step is there: identity, shares, orders
  draw     the samples of every step of the run
  packs    microseconds a sample to pack a step, of 64 steps

Goal for 33.4 million rows: read, plan and draw together in 120 s, at most 6 GiB. Memory is VmHWM.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import fingerprints
from schemas.fingerprints import Fingerprints
from schemas.shard import INDEX
from train.config import DataConfig, Mixture, Phase
from train.data import index, plan

PRINTS = Fingerprints("0" * 64, "1" * 64)
_CHUNK, _SHARD, _SUBSETS, _STEPS = 1_000_000, 1000, 185, 60_000


def make_index(path: Path, rows: int) -> None:
    schema = fingerprints.written(INDEX, PRINTS)
    share = np.random.default_rng(0).dirichlet(np.full(_SUBSETS, 0.5))
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, _CHUNK):
            writer.write_table(_rows(first, min(_CHUNK, rows - first), share, schema))


def _rows(first: int, count: int, share: np.ndarray, schema: pa.Schema) -> pa.Table:
    random, number = np.random.default_rng(first + 1), np.arange(first, first + count)
    tokens = np.clip(random.lognormal(7.3, 0.6, count), 20, 4096).astype(np.int32)
    subset = random.choice(_SUBSETS, count, p=share)
    zero = np.zeros(count, np.int32)
    columns = {
        "sample_id": pa.array(number).cast(pa.string()),
        "shard": (number // _SHARD).astype(np.int32),
        "row": (number % _SHARD).astype(np.int32),
        "source": np.array(["finevision", "jagle"])[(subset > 120).astype(int)],
        "subset": np.array([f"subset-{each:03d}" for each in range(_SUBSETS)])[subset],
        "language": np.full(count, "en"),
        "num_tokens": tokens,
        "num_text_tokens": tokens // 3,
        "num_image_tokens": tokens - tokens // 3,
        "num_target_tokens": tokens // 5,
        "num_tiles": np.minimum(13, tokens // 300).astype(np.int32),
    }
    return pa.table([columns.get(field.name, zero) for field in schema], schema)


def config(case: str, steps: int) -> DataConfig:
    base: dict[str, Any] = {"shards": "x", "seed": 0, "max_tokens_per_pack": 16_384}
    weights = {
        f"{'jagle' if number > 120 else 'finevision'}/subset-{number:03d}": 1.0 + number % 7
        for number in range(_SUBSETS)
    }
    mixed = Mixture(by="subset", unit="tokens", weights=weights)
    cases: dict[str, dict[str, Any]] = {
        "plain": {"epochs": 1, "batch_size": 1113},
        "tokens": {"epochs": 1, "batch_tokens": 2_000_000},
        "natural": {"epochs": 1, "batch_size": 1113, "mixture": Mixture(by="subset")},
        "weights": {"steps": steps, "batch_size": 256, "mixture": mixed},
        "single": {
            "schedule": (Phase(steps // 2, "single"), Phase(steps // 2, "mixed")),
            "batch_size": 256,
            "mixture": mixed,
        },
    }
    return DataConfig(**base, **cases[case])


CASES = ("plain", "tokens", "natural", "weights", "single")


def measure(path: Path, rows: int, case: str) -> dict[str, Any]:
    times = [time.perf_counter()]
    found = index.read(path, rows, PRINTS)
    times.append(time.perf_counter())
    steps = min(_STEPS, max(2, rows // 256))
    made = plan.make(config(case, steps), SimpleNamespace(**found._asdict()), 6 * 7e9, 6 * 4e8 * 1024)  # type: ignore[arg-type]
    made.fingerprint()
    next(iter(made.draws.steps(0)))
    times.append(time.perf_counter())
    some = [samples for number, samples in enumerate(made.draws.steps(0)) if number % max(1, made.total // 64) == 0]
    times.append(time.perf_counter())
    for samples in some:
        made.packer.packs(samples)
    packing = time.perf_counter() - times[-1]
    read, planned, drawn = np.diff(times).tolist()
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "case": case,
        "steps": made.total,
        "read_s": round(read, 1),
        "plan_s": round(planned, 1),
        "draw_s": round(drawn, 1),
        "total_s": round(read + planned + drawn, 1),
        "packs_us": round(packing / sum(map(len, some)) * 1e6, 1),
        "peak_gib": round(peak / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=33_400_000)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.index:
        print(json.dumps(measure(options.index, options.rows, options.cases[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.parquet"
        make_index(path, options.rows)
        print(f"{options.rows:,} rows, {path.stat().st_size / 2**20:,.0f} MiB")
        for case in options.cases:
            command = [sys.executable, "-m", "benchmarks.plan", "--index", str(path), "--rows", str(options.rows)]
            subprocess.run([*command, "--cases", case], check=True)


if __name__ == "__main__":
    main()
