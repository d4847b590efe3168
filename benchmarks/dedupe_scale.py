"""The law of `compare` and of dedupe's choice: time and memory of a worker by the number of samples, and what that
makes of a billion.

    python -m benchmarks.dedupe_scale [--kind texts|pictures] [--sizes 1000000 5000000 20000000] [--folder F]

What the first phase leaves is written directly, with planted duplicates and near misses: nobody has 20 million samples
at hand. Of a text there is a home row and twenty bands, of a picture (`unit: sample`) a home row with its hashes. The
samples themselves are one real part of a thousand texts under many names, so what the last phase reads of them comes
from the page cache. Each phase runs in one process of its own, task after task, by the pipeline's own functions:

  sketch   real texts -> rows and bands; of 64,000 samples, for a task sees its own parts and nothing else
  found    buckets: what has a key in common
  decide   candidates verified, near misses chosen
  choice   groups of pairs, and who stays: one task

Goal: µs per sample of every phase grow by less than a third from the first size to the last, and the peak memory of a
worker by less than a quarter; but for the choice, one task that holds the pairs as columns. From a million samples on a
candidate's earlier text is always another read, so smaller sizes flatter `decide`. Texts take about 300 bytes of disk
(6 GB of 20 million) and 0.3 ms of one core each, so 20 million take about two hours; pictures a third of that disk, and
few minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.graph.task import Job, Task, do
from pipeline.steps import compare
from pipeline.steps.compare import COMPARE, PairsJob, SketchJob
from pipeline.steps.dedupe import DEDUPE, ChoiceJob
from pipeline.steps.samples import Part
from pipeline.steps.verification import DecideJob
from pipeline.storage import exchange, layout
from pipeline.storage.part_writer import PartWriter, write_parquet
from schemas.sample import SAMPLE
from stages.duplicates.minhash import mixed
from stages.duplicates.params import DedupeParams
from stages.duplicates.sketch import IMAGES, SKETCH
from stages.duplicates.text_sketch import BANDS
from stages.stage import GROUP_ROWS

ROWS, WIDTH = 1000, 32  # of a part; parts of a task, at least
SKETCHED = 64_000
PHASES = ("write", "sketch", "found", "decide", "choice")
NEAR, EXACT = 10, 50  # one of so many samples is near an earlier one, or equal to it
PARAMS = DedupeParams()


@dataclass(frozen=True)
class Run:
    """What is measured: where, how many samples (a multiple of a task's), and of which kind."""

    folder: Path
    samples: int
    kind: str

    @property
    def width(self) -> int:
        """Parts of a task."""
        return compare.task_rows(self.samples) // ROWS

    @property
    def tasks(self) -> int:
        return -(-self.samples // (ROWS * self.width))

    @property
    def buckets(self) -> int:
        return compare.bucket_count(self.samples)

    def at(self, name: str) -> Path:
        return self.folder / name


@dataclass(frozen=True)
class Measured:
    """Of one phase: seconds, MiB, tasks, samples that it saw."""

    wall: float
    cpu: float
    peak: float
    tasks: int
    samples: int


# ---- what the first phase leaves


def write(run: Run) -> int:
    """The parts, and what is exchanged of them; how many tasks they are of."""
    samples, parts = run.at("samples"), run.tasks * run.width
    samples.mkdir(parents=True)
    table = pa.Table.from_pylist(list(texts()), SAMPLE)
    groups = (table.slice(start, GROUP_ROWS) for start in range(0, ROWS, GROUP_ROWS))
    write_parquet(groups, SAMPLE, run.at("one.parquet"))
    for number in range(parts):
        if number % 10_000 == 0:  # a file system allows only so many names of one file
            shutil.copyfile(run.at("one.parquet"), source := samples / layout.part(number))
        else:
            os.link(source, samples / layout.part(number))
    for task in range(run.tasks):
        writer, share = PartWriter(run.at("sketches"), task), ROWS * run.width
        place = np.arange(task * share, (task + 1) * share)
        home, bands = sketched(place, run.kind)
        bucket = mixed(np.frombuffer(b"".join(home["key"].to_pylist()), np.uint64)[::2]) % np.uint64(run.buckets)
        exchange.write(writer, "sketches", home, bucket, run.buckets)
        exchange.write(writer, "bands", bands, bands["key"].to_numpy() % np.uint64(run.buckets), run.buckets)
    return run.tasks


def texts() -> Iterator[dict[str, Any]]:
    """Rows 2 n and 2 n + 1 are near each other: one word of 120 is another."""
    rng = np.random.default_rng(1)
    words = np.array(["".join(rng.choice(list("aeioubdfgklmnrst"), 6)) for _ in range(5000)])
    for row in range(ROWS):
        if row % 2 == 0:
            said = rng.choice(words, 120)
        else:
            said[60] = "changed"
        turns = (("user", "Tell me all of it"), ("assistant", " ".join(said)))
        messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
        yield {"sample_id": f"s/t#{row}", "source": "s", "messages": messages, "images": [], "image_info": []}


def earlier(place: np.ndarray, every: int, row: int) -> np.ndarray:
    """Of one in so many samples an earlier one, whose row differs by this bit: else itself."""
    rank = mixed(place.astype(np.uint64) * np.uint64(every))
    other = (mixed(rank) % np.maximum(place, 1).astype(np.uint64)).astype(np.int64)
    other = other // ROWS * ROWS + place % ROWS ^ row
    return np.where((rank % np.uint64(every) == 0) & (other < place), other, place)


def sketched(place: np.ndarray, kind: str) -> tuple[pa.Table, pa.Table]:
    """SKETCH and BANDS rows of samples, by their numbers."""
    same = earlier(place, EXACT if kind == "texts" else NEAR, 0)
    key = np.stack([mixed(same), mixed(same + 1)], axis=1).tobytes()
    keys = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(place), [None, pa.py_buffer(key)])
    part, row = (place // ROWS).astype(np.int32), (place % ROWS).astype(np.int32)
    columns = {
        "bucket": np.zeros(len(place), np.int32),
        "key": keys.cast(pa.binary()),
        "home": np.ones(len(place), bool),
        "part": part,
        "row": row,
        "sample_id": [f"s/train-{p:05d}.parquet#{r}" for p, r in zip(part.tolist(), row.tolist(), strict=True)],
        "source": np.zeros(len(place), np.int32),
        "pixels": np.full(len(place), 640 * 480),
        "rating": pa.nulls(len(place), pa.float32()),
        "content": keys,
        "pictures": keys,
        "images": images(same, kind),
    }
    home = pa.table([pa.array(columns[name], SKETCH.field(name).type) for name in SKETCH.names], schema=SKETCH)
    return home, banded(place, same) if kind == "texts" else BANDS.empty_table()


def images(same: np.ndarray, kind: str) -> pa.Array:
    """A picture each, or none. What it looks like is one byte over and over, which takes no disk."""
    if kind == "texts":
        return pa.array([[]] * len(same), IMAGES)
    made: list[pa.Array] = []
    for field in IMAGES.value_type:
        if pa.types.is_uint64(field.type):
            made.append(pa.array(mixed(same), field.type))
        elif pa.types.is_string(field.type):
            made.append(pa.array([f"{value:064x}" for value in same.tolist()], field.type))
        elif pa.types.is_integer(field.type):
            made.append(pa.array(np.full(len(same), 64), field.type))
        else:
            width = field.type.byte_width if pa.types.is_fixed_size_binary(field.type) else 1024
            made.append(pa.array([bytes([value % 251]) * width for value in same.tolist()], field.type))
    pictures = pa.StructArray.from_arrays(made, fields=list(IMAGES.value_type))
    return pa.ListArray.from_arrays(pa.array(np.arange(len(same) + 1), pa.int32()), pictures, type=IMAGES)


def banded(place: np.ndarray, same: np.ndarray) -> pa.Table:
    """Twenty bands of each text; of one in ten some are those of an earlier one that is near, and a few are chance."""
    number = PARAMS.text.bands
    near = earlier(same, NEAR, 1)
    band = np.arange(number)
    shared = mixed(near[:, None] * number + band) % np.uint64(3) == 0
    owner = np.where(shared, near[:, None], same[:, None])
    chance = mixed(place[:, None] * number + band + 7) % np.uint64(1000) == 0
    owner = np.where(chance, place[:, None] // 1000 * 1000, owner)
    columns = {
        "key": mixed(owner * number + band),
        "part": np.repeat(place // ROWS, number).reshape(-1, number),
        "row": np.repeat(place % ROWS, number).reshape(-1, number),
        "frame": np.repeat(place % ROWS // 2 % 8, number).reshape(-1, number),
        "content": np.repeat(mixed(same) >> np.uint64(32), number).reshape(-1, number),
        "size": np.full((len(place), number), 116),
    }
    return pa.table([pa.array(columns[n].ravel(), BANDS.field(n).type) for n in BANDS.names], schema=BANDS)


# ---- the phases


def jobs(run: Run, phase: str) -> tuple[Any, list[Job]]:
    """What does the tasks of a phase, and the tasks."""
    samples, owners = str(run.at("samples")), run.tasks
    if phase == "sketch":
        parts = [Part(f"{samples}/{layout.part(n)}", "s", ROWS) for n in range(min(SKETCHED, run.samples) // ROWS)]
        shares = [tuple(parts[start : start + run.width]) for start in range(0, len(parts), run.width)]
        given = {"sources": ("s",), "params": PARAMS, "buckets": run.buckets}
        return COMPARE.phases[0].do, [
            SketchJob(amount=len(share) * ROWS, samples=share, first=number * run.width, **given)  # type: ignore[arg-type]
            for number, share in enumerate(shares)
        ]
    if phase == "found":
        given = {"folder": str(run.at("sketches")), "files": run.tasks, "buckets": run.buckets, "owners": owners}
        each = run.samples // run.buckets
        return COMPARE.phases[1].do, [
            PairsJob(amount=each, bucket=n, width=run.width, sources=("s",), params=PARAMS, **given)  # type: ignore[arg-type]
            for n in range(run.buckets)
        ]
    if phase == "decide":
        given = {"folder": str(run.at("found")), "files": run.buckets, "owners": owners, "params": PARAMS}
        rows, places = (("s", ROWS),) * run.width, ((0, 0, samples),)
        return COMPARE.phases[2].do, [
            DecideJob(amount=ROWS * run.width, owner=n, rows=rows, places=places, **given)  # type: ignore[arg-type]
            for n in range(owners)
        ]
    files = [[f"{run.at('decide')}/{kind}-{n:05d}.parquet" for n in range(owners)] for kind in ("pairs", "members")]
    choice = ChoiceJob(
        amount=1,
        pairs=tuple(files[0]),
        members=tuple(files[1]),
        verdicts=(),
        num_parts=run.tasks * run.width,
        params=PARAMS,
    )
    return DEDUPE.phases[0].do, [choice]


def measured(run: Run, phase: str) -> Measured:
    """Do a phase here and now."""
    wall, cpu = time.monotonic(), time.process_time()
    if phase == "write":
        tasks = write(run)
    else:
        function, todo = jobs(run, phase)
        run.at(phase).mkdir()
        for number, job in enumerate(todo):
            record = do(Task("benchmark", str(run.at(phase)), number, function, job))
            if record.problem:
                raise SystemExit(record.problem)
        tasks = len(todo)
    seen = min(SKETCHED, run.samples) if phase == "sketch" else run.samples
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(time.monotonic() - wall, time.process_time() - cpu, peak, tasks, seen)


def apart(run: Run, phase: str) -> Measured:
    """Do a phase in a process of its own."""
    given = ["--phase", phase, "--folder", str(run.folder), "--sizes", str(run.samples), "--kind", run.kind]
    command = [sys.executable, "-m", "benchmarks.dedupe_scale", *given]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Measured(**json.loads(told.splitlines()[-1]))


# ---- the law


def law(found: dict[int, dict[str, Measured]]) -> Iterator[str]:
    """A line for each phase: how time and memory grow, and a billion samples."""
    small, large = min(found), max(found)
    yield f"\n| phase | µs a sample, {large:,} beside {small:,} | MiB of a worker | a billion samples, core hours |"
    yield "|---|---|---|---|"
    for phase in list(found[small])[1:]:
        first, last = found[small][phase], found[large][phase]
        each = [one.cpu / one.samples * 1e6 for one in (first, last)]
        memory = f"{first.peak:,.0f} -> {last.peak:,.0f}"
        grown = f"{each[0]:,.0f} -> {each[1]:,.0f} ({each[1] / max(each[0], 1e-9):.2f} x)"
        yield f"| {phase} | {grown} | {memory} | {each[1] * 1e9 / 1e6 / 3600:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("texts", "pictures"), default="texts")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 5_000_000, 20_000_000])
    parser.add_argument("--folder", type=Path, help="where to build; emptied after every size")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        print(json.dumps(asdict(measured(Run(given.folder, given.sizes[0], given.kind), given.phase))))
        return
    report(given.sizes, given.kind, given.folder)


def report(sizes: Sequence[int], kind: str, folder: Path | None = None) -> dict[int, dict[str, Measured]]:
    """Measure all phases of all sizes and print what was found."""
    found: dict[int, dict[str, Measured]] = {}
    print(
        "| samples | phase | tasks | wall | CPU | peak of a worker | disk |\n|---|---|---|---|---|---|---|", flush=True
    )
    for asked in sizes:
        share = ROWS * Run(Path(), asked, kind).width
        size = -(-asked // share) * share
        top = Path(tempfile.mkdtemp(prefix="bench-dedupe-", dir=folder))
        try:
            for phase in PHASES:
                if phase == "sketch" and kind == "pictures":  # a picture's are drawn at ingest
                    continue
                one = apart(Run(top, size, kind), phase)
                found.setdefault(size, {})[phase] = one
                disk = sum(path.stat().st_size for path in top.rglob("*") if "samples" not in path.parts) / 1e9
                took = f"{one.wall:,.1f} s | {one.cpu:,.1f} s | {one.peak:,.0f} MiB"
                print(f"| {size:,} | {phase} | {one.tasks:,} | {took} | {disk:.2f} GB |", flush=True)
        finally:
            shutil.rmtree(top)
    print(*law(found), sep="\n")
    return found


if __name__ == "__main__":
    main()
