"""What ingest costs beside the calls it cannot avoid, and what Ray costs beside a plain pool.

    python -m benchmarks.ingest [--images 2000] [--rounds 3] [--texture smooth|dense]

Makes JPEGs of about 0.6 megapixels (long side 400 to 1,600, quality 90) in LLaVA's layout, `smooth` as photographs are
or `dense`, which takes more bytes and more time to decode, then measures in one run:

  bare   CPU seconds of read + sha256 + scaled decode + perceptual hash + write, on one core, image by image
  ours   CPU seconds of the ingest task on the same images, on one core (rows, schema, ledger, parquet included)
  pool   samples/s of the same tasks on multiprocessing.Pool(2)
  ray    samples/s of the same tasks on Ray with 2 workers, from the first task to the last (start-up apart)

Goals: ours <= 1.4 x bare in CPU time; ray >= 0.9 x pool in samples/s. Rounds alternate; the medians are printed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import io
import json
import multiprocessing
import multiprocessing.pool
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.graph.build import build
from pipeline.graph.content import Content
from pipeline.graph.context import Context
from pipeline.graph.task import Record, Task, do
from pipeline.recipe.load import load
from pipeline.run import runner
from pipeline.run.ray_executor import RayExecutor
from pipeline.run.runner import Serial, Take
from pipeline.steps.ingest import IngestJob
from pipeline.steps.table import STAGES

_PARTS = 16
# Pixels from one grain of noise to the next, and the layer's weight: 102 kB a picture, and about twice that
_LAYERS = {"smooth": ((64, 0.8), (12, 0.37)), "dense": ((64, 0.8), (12, 0.37), (4, 0.2))}


def make(folder: Path, count: int, texture: str) -> list[Path]:
    """`count` JPEGs and the JSON that names them."""
    (folder / "images").mkdir(parents=True)
    paths = [folder / "images" / f"{number:05d}.jpg" for number in range(count)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(draw, [(path, number, texture) for number, path in enumerate(paths)], chunksize=50)
    records = []
    for number, path in enumerate(paths):
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": f"Noise {number}."}]
        records.append({"id": number, "image": f"images/{path.name}", "conversations": turns})
    (folder / "records.json").write_text(json.dumps(records), encoding="utf-8")
    return paths


def draw(path: Path, number: int, texture: str) -> None:
    """One picture: layers of smooth noise, coarse to fine, each laid over the one before with its weight."""
    rng = np.random.default_rng(number)
    long = int(rng.integers(400, 1601))
    short = int(long * rng.uniform(0.4, 0.7))
    size = (long, short) if number % 2 else (short, long)
    image = Image.new("RGB", size, "gray")
    for step, weight in _LAYERS[texture]:
        noise = rng.integers(0, 256, (size[1] // step + 2, size[0] // step + 2, 3), dtype=np.uint8)
        image = Image.blend(image, Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), weight)
    image.save(path, quality=90)


def bare(paths: list[Path], out: Path) -> None:
    """The calls nobody can avoid, and nothing else."""
    rows = []
    for path in paths:
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        image = Image.open(io.BytesIO(data))
        image.draft("L", (64, 64))
        grey = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
        rows.append({"bytes": data, "sha256": digest, "phash": str(imagehash.phash(grey))})
    schema = pa.schema([("bytes", pa.large_binary()), ("sha256", pa.string()), ("phash", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema), out, compression="NONE", use_dictionary=False)


def cpu(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def wall(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def planned(folder: Path, out: Path, rows_per_part: int) -> list[Task]:
    """The ingest tasks of the folder, its download done."""
    source = {"format": "conversations", "files": ["records.json"], "images": "."}
    mapping = {
        "data": {"sources": {"bench": source}, "ingest": {"rows_per_part": rows_per_part}, "pretokenise": {}},
        "run": {"out": str(out), "locations": {"bench": str(folder), "tokenizer": str(folder.parent / "tokenizer")}},
    }
    path = folder.parent / "recipe.yaml"
    path.write_text(json.dumps(mapping), encoding="utf-8")
    loaded = load(path)
    context = Context(loaded, Content(loaded))
    steps = [step for step in build(context, STAGES) if step.stage.makes in ("files", "samples")]
    keeps = Keeps()
    runner.run(steps, context, keeps)
    return keeps.found


class Keeps:
    """Does the tasks before ingest's own, and keeps those."""

    def __init__(self) -> None:
        self.found: list[Task] = []

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        while (task := take()) is not None:
            if isinstance(task.job, IngestJob):
                self.found.append(task)
            else:
                yield task, do(task)


def elsewhere(found: list[Task], out: Path) -> list[Task]:
    """The same tasks, writing below `out`."""
    return [dataclasses.replace(task, folder=str(out / "part")) for task in found]


def taking(found: list[Task]) -> Callable[[], Task | None]:
    """Tasks as an executor asks for them."""
    waiting = iter(found)
    return lambda: next(waiting, None)


def on_pool(pool: multiprocessing.pool.Pool, found: list[Task]) -> list[Record]:
    return list(pool.imap_unordered(do, found))


def on_ray(executor: RayExecutor, found: list[Task]) -> list[Record]:
    return [ended[1] for ended in executor.run(taking(found)) if ended is not None]


def works(
    paths: list[Path], found: list[Task], pool: multiprocessing.pool.Pool, executor: RayExecutor
) -> dict[str, Callable[[Path], object]]:
    """What is measured; each takes the place to write to."""
    return {
        "bare": lambda out: [bare(paths[i::_PARTS], out.with_suffix(f".{i}.parquet")) for i in range(_PARTS)],
        "ours": lambda out: list(Serial().run(taking(elsewhere(found, out)))),
        "pool": lambda out: on_pool(pool, elsewhere(found, out)),
        "ray": lambda out: on_ray(executor, elsewhere(found, out)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texture", choices=sorted(_LAYERS), default="smooth")
    given = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="bench-ingest-"))
    paths = make(top / "data", given.images, given.texture)
    tokenizer = top / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}", encoding="utf-8")  # named by the recipe, never opened here
    found = planned(top / "data", top / "out", max(given.images // _PARTS, 1))
    executor = RayExecutor(None, 2)
    times: dict[str, list[float]] = {"bare": [], "ours": [], "pool": [], "ray": []}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        bare(paths[:8], top / "warm.parquet")
        list(Serial().run(taking(elsewhere(found[:1], top / "warm"))))
        on_pool(pool, elsewhere(found[:2], top / "warm"))
        on_ray(executor, elsewhere(found[:2], top / "warm"))
        for number in range(given.rounds):
            for name, work in works(paths, found, pool, executor).items():
                clock = cpu if name in ("bare", "ours") else wall
                times[name].append(clock(functools.partial(work, top / f"{name}-{number}")))
    executor.close()
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    megapixels = statistics.mean(width * height for width, height in (Image.open(p).size for p in paths)) / 1e6
    kilobytes = statistics.mean(p.stat().st_size for p in paths) / 1e3
    rate = {name: given.images / seconds for name, seconds in median.items()}
    print(f"{given.images:,} JPEGs of {megapixels:.2f} MP and {kilobytes:.0f} kB, {given.rounds} rounds, medians")
    print(f"bare calls  {median['bare']:6.2f} CPU s   {rate['bare']:7,.0f} images/s a core")
    print(f"ingest      {median['ours']:6.2f} CPU s   ratio {median['ours'] / median['bare']:.2f} (goal <= 1.40)")
    print(f"Pool(2)     {median['pool']:6.2f} s       {rate['pool']:7,.0f} samples/s")
    print(f"Ray, 2      {median['ray']:6.2f} s       {rate['ray']:7,.0f} samples/s")
    print(f"Ray makes {rate['ray'] / rate['pool']:.2f} of the pool's samples/s (goal >= 0.90)")


if __name__ == "__main__":
    main()
