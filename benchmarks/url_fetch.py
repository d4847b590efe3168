"""What `collect` fetches of images by address beside img2dataset: the same addresses, server and concurrency.

    python3 -m venv /tmp/i2d && /tmp/i2d/bin/pip install img2dataset
    python -m benchmarks.url_fetch /tmp/i2d/bin/python [--images 10000] [--rounds 3]

A server process of its own answers from memory, over kept connections where a client wants them: JPEGs of 10 to 20 kB,
each of them different. Both sides run as a user runs them, two processes with 16 requests at a time each, 1024 rows a
part: img2dataset's `download` (webdataset output, bytes as they are, sha256, no EXIF), and `python -m pipeline
fetch_images` on Ray with statuses, packs and the journal for a resumed run. The clock runs from the first request that
the server sees to the last record of a finished part on disk; the rest of the command's time is start-up and end, given
apart. Rounds alternate; the table gives medians. `serial` is our step in one process without Ray, beside img2dataset
with one process. How busy the server was is printed, because at 100 % it would be what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).parent.parent
_AT_A_TIME, _PROCESSES, _ROWS = 16, 2, 1024

_IMG2DATASET = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(url_list=sys.argv[1], input_format="parquet", url_col="url", caption_col="caption",
             output_folder=sys.argv[2], output_format="webdataset", processes_count=int(sys.argv[3]), thread_count={at},
             number_sample_per_shard={rows}, resize_mode="no", disable_all_reencoding=True, compute_hash="sha256",
             extract_exif=False, retries=2, timeout=10)
"""

_SERIAL = """
import sys
from pipeline.recipe.load import load
from pipeline.graph.build import build
from pipeline.graph.content import Content
from pipeline.graph.context import Context
from pipeline.run import runner
from pipeline.run.runner import Serial
from pipeline.steps.table import STAGES
loaded = load(sys.argv[1])
context = Context(loaded, Content(loaded))
step = next(s for s in build(context, STAGES) if s.stage.makes == "images")
runner.run([step], context, Serial())
"""


# ---- the server


def pictures(count: int) -> list[bytes]:
    """`count` different JPEGs of 10 to 20 kB: a few dozen of noise, each copy with a comment of its own."""
    bases = []
    for number in range(32):
        rng = np.random.default_rng(number)
        side = 150 + 3 * number
        noise = Image.fromarray(rng.integers(0, 256, (side // 2, side // 2, 3), dtype=np.uint8))
        stream = io.BytesIO()
        noise.resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=60)
        bases.append(stream.getvalue())
    comment = [b"\xff\xfe\x00\x22" + hashlib.sha256(b"%d" % i).digest() for i in range(count)]
    return [bases[i % 32][:2] + comment[i] + bases[i % 32][2:] for i in range(count)]


class _Answers(asyncio.Protocol):
    """GET /<number>.jpg from memory; /stats says what was asked since the last time, and begins anew."""

    answers: list[bytes]
    seen: dict[str, float]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.got = transport, b""
        self.seen["connections"] += 1

    def data_received(self, data: bytes) -> None:
        self.got += data
        while b"\r\n\r\n" in self.got:
            head, _, self.got = self.got.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path == b"/stats":
                body = json.dumps({**self.seen, "cpu": time.process_time() - self.seen["cpu"]}).encode()
                self.seen.update(_nothing())
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            else:
                self.seen["images"] += 1
                self.seen["first"] = self.seen["first"] or time.time()
                self.transport.write(self.answers[int(path[1:-4])])
            if b"\r\nconnection: close" in head.lower():
                self.transport.close()


def _nothing() -> dict[str, float]:
    return {"images": 0, "connections": 0, "first": 0.0, "cpu": time.process_time()}


async def serve(count: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    _Answers.answers = [head % len(image) + image for image in pictures(count)]
    _Answers.seen = _nothing()
    server = await asyncio.get_running_loop().create_server(_Answers, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def stats(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats") as answer:
        found: dict[str, Any] = json.load(answer)
        return found


# ---- both sides


def addresses(folder: Path, port: int, count: int) -> None:
    """The list of addresses, as a parquet file that both sides read."""
    folder.mkdir(parents=True)
    rows = {
        "url": [f"http://127.0.0.1:{port}/{i}.jpg" for i in range(count)],
        "caption": [f"{i}" for i in range(count)],
    }
    pq.write_table(pa.table(rows), folder / "rows.parquet")


def theirs(python: Path, rows: Path, top: Path, processes: int) -> Path:
    """Run img2dataset; its output folder."""
    script = top / "img2dataset_run.py"
    script.write_text(_IMG2DATASET.format(at=_AT_A_TIME, rows=_ROWS))
    quiet = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    out = top / "theirs"
    command = [python, script, rows / "rows.parquet", out, str(processes)]
    subprocess.run(command, check=True, capture_output=True, env=quiet)
    got = sum(json.loads(path.read_text())["successes"] for path in out.glob("*_stats.json"))
    assert got == pq.read_metadata(rows / "rows.parquet").num_rows, f"img2dataset fetched {got}"
    return out


def prepare(rows: Path, top: Path) -> Path:
    """The recipe of our side, its download done."""
    (top / "tokenizer").mkdir(exist_ok=True)
    (top / "tokenizer" / "tokenizer.json").write_text("{}", encoding="utf-8")  # named by the recipe, not opened here
    source = {"format": "caption", "files": ["*.parquet"], "urls": {"column": "url"}, "columns": {"image": "url"}}
    locations = {"bench": str(rows), "tokenizer": str(top / "tokenizer")}
    crowd = {"at_a_time": _AT_A_TIME, "per_host": _AT_A_TIME}
    run = {"out": str(top / "ours"), "workers": _PROCESSES, "allow_hosts": ["127.0.0.1"], "crowd": crowd}
    mapping = {"data": {"sources": {"bench": source}, "pretokenise": {}}, "run": run | {"locations": locations}}
    path = top / "recipe.yaml"
    path.write_text(json.dumps(mapping), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "pipeline", "hash", path], check=True, cwd=ROOT, capture_output=True)
    return path


def ours(rows: Path, top: Path, serial: bool) -> Path:
    """Run our collect, after its download; its output folder."""
    path = top / "recipe.yaml"
    start = (
        [sys.executable, "-c", _SERIAL, path] if serial else [sys.executable, "-m", "pipeline", "fetch_images", path]
    )
    subprocess.run(start, check=True, cwd=ROOT, capture_output=True)
    (manifest,) = (top / "ours").glob("01-fetch_images-*/manifest.json")
    counts = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
    assert counts["kept"] == pq.read_metadata(rows / "rows.parquet").num_rows, counts
    return manifest.parent


def measure(python: Path, port: int, top: Path, count: int, rounds: int) -> None:
    rows = top / "rows"
    addresses(rows, port, count)
    prepare(rows, top)
    sides: dict[str, tuple[Callable[[], Path], str]] = {
        "img2dataset": (lambda: theirs(python, rows, top, _PROCESSES), "*_stats.json"),
        "ours, Ray": (lambda: ours(rows, top, False), "part-*.json"),
        "img2dataset, one process": (lambda: theirs(python, rows, top, 1), "*_stats.json"),
        "ours, serial": (lambda: ours(rows, top, True), "part-*.json"),
    }
    seconds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (work, last) in sides.items():
            stats(port)
            began = time.monotonic()
            out = work()
            whole, seen = time.monotonic() - began, stats(port)
            assert seen["images"] == count, "some image was asked for twice"
            net = max(path.stat().st_mtime for path in out.glob(last)) - seen["first"]
            seconds[name].append((net, whole - net, seen["cpu"] / net))
            shutil.rmtree(out)
    rate = {name: count / statistics.median(s[0] for s in seconds[name]) for name in sides}
    print(f"{count:,} images, {rounds} rounds, medians")
    print(f"{'side':<26} {'images/s':>9} {'start and end':>14} {'server busy':>12}")
    for name in sides:
        rest, busy = (statistics.median(s[i] for s in seconds[name]) for i in (1, 2))
        print(f"{name:<26} {rate[name]:>9,.0f} {rest:>12.1f} s {busy:>12.0%}")
    print(f"ours / img2dataset: {rate['ours, Ray'] / rate['img2dataset']:.2f} on two processes, ", end="")
    print(f"{rate['ours, serial'] / rate['img2dataset, one process']:.2f} on one (goal >= 1.00)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path, help="the python of an environment that has img2dataset")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return asyncio.run(serve(given.images))
    version = "import importlib.metadata as m; print(m.version('img2dataset'))"
    print("img2dataset", subprocess.run([given.python, "-c", version], capture_output=True, text=True).stdout.strip())
    top = Path(tempfile.mkdtemp(prefix="bench-urls-"))
    command = [sys.executable, __file__, str(given.python), "--serve", "--images", str(given.images)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            measure(given.python, int(server.stdout.readline()), top, given.images, given.rounds)
        finally:
            server.kill()
            shutil.rmtree(top)


if __name__ == "__main__":
    main()
