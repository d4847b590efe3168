"""The most memory that a worker and the driver take for ingest and pretokenise of large data.

    python -m benchmarks.memory [CASE ...] [--scale 1.0] [--limit-mib 0]

Every case is generated in a temporary folder and goes through `python -m pipeline run` as a user would start it, with
`run.workers: 2`; then the outputs are counted and deleted. Cases:

  inline    1,024 rows of one 8 MB image each, parquet in row groups of 32 rows
  pages     the same in row groups of 100 rows, whose pages (dictionary and data) are as large as the group
  group     the same in one row group of 8 GiB, in small pages
  folder    the same as files, named by a JSON array
  zip       the same in a zip
  array     a JSON array of 5 GB in LLaVA's layout, one of its records broken
  zst       the same array as .json.zst
  tar       a WebDataset tar of 5 GB, images of 200 kB
  rows      40 rows of three 40 MB images each, just below the default caps
  odd       an image of 20 GB, a record of 2 GB, a row of 1.8 GiB, a text of 1 GB: each costs its row

`peak` is VmHWM of each process (its peak of resident memory, mapped files included), read four times a second; the
largest of the workers that ran a stage, and the driver's. `private` leaves mapped and shared pages out. `--limit-mib`
puts all of it into a memory cgroup of that size (root, cgroup v1 or v2), which also holds the page cache. Times are of
the whole run, the driver's pass over the file included; MB/s is input bytes over that time.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.quickstart import defects, tokenizer

MIB = 1024 * 1024
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TURNS = pa.list_(pa.struct([("user", pa.string()), ("assistant", pa.string())]))
_TALK = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "Noise."}]
_WORDS = ["the", "cat", "sat", "“quoted”", 'and "so"', "\n", "日本語", "on", "a", "mat", "photograph", "of", "two", "é"]


@functools.cache
def _noise(number: int, size: int) -> bytes:
    side = int((size / 1.05) ** 0.5 / 8) * 8
    pixels = np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def jpeg(number: int, size: int) -> bytes:
    """A JPEG of about `size` bytes; no two have the same bytes."""
    return _noise(number % 4, size) + number.to_bytes(8, "big")


# ---- the cases: each writes data into a folder and returns its source and the rows to expect


Case = Callable[[Path, float], tuple[dict[str, Any], dict[str, int]]]


def inline(folder: Path, scale: float, rows: int = 32) -> tuple[dict[str, Any], dict[str, int]]:
    total = max(int(1024 * scale), 1)
    schema = pa.schema([("images", pa.list_(_IMAGE)), ("texts", _TURNS)])
    with pq.ParquetWriter(folder / "data.parquet", schema) as sink:
        for first in range(0, total, rows):
            batch = [
                {
                    "images": [{"bytes": jpeg(n, 8 * 10**6), "path": None}],
                    "texts": [{"user": "What?", "assistant": f"{n}"}],
                }
                for n in range(first, min(first + rows, total))
            ]
            sink.write_table(pa.Table.from_pylist(batch, schema))
    return {"format": "texts", "files": ["*.parquet"]}, {"kept": total}


def pages(folder: Path, scale: float) -> tuple[dict[str, Any], dict[str, int]]:
    return inline(folder, scale, rows=100)


def group(folder: Path, scale: float) -> tuple[dict[str, Any], dict[str, int]]:
    """One row group: its tables come as batches, each image is a page."""
    total = max(int(1024 * scale), 1)
    schema = pa.schema([("images", pa.list_(_IMAGE)), ("texts", _TURNS)])
    options = {"use_dictionary": False, "write_batch_size": 1, "compression": "none"}
    with pq.ParquetWriter(folder / "data.parquet", schema, **options) as sink:
        for n in range(total):
            row = {
                "images": [{"bytes": jpeg(n, 8 * 10**6), "path": None}],
                "texts": [{"user": "What?", "assistant": f"{n}"}],
            }
            sink.write_batch(pa.RecordBatch.from_pylist([row], schema), row_group_size=total)
    return {"format": "texts", "files": ["*.parquet"]}, {"kept": total}


def rows(folder: Path, scale: float) -> tuple[dict[str, Any], dict[str, int]]:
    total = max(int(40 * scale), 1)
    schema = pa.schema([("images", pa.list_(_IMAGE)), ("texts", _TURNS)])
    with pq.ParquetWriter(folder / "data.parquet", schema, use_dictionary=False) as sink:
        for n in range(total):
            images = [{"bytes": jpeg(3 * n + k, 40 * 10**6), "path": None} for k in range(3)]
            sink.write_table(
                pa.Table.from_pylist([{"images": images, "texts": [{"user": "What?", "assistant": f"{n}"}]}], schema)
            )
    return {"format": "texts", "files": ["*.parquet"]}, {"kept": total}


def _named(folder: Path, total: int) -> None:
    records = [{"id": n, "image": f"images/{n:05d}.jpg", "conversations": _TALK} for n in range(total)]
    (folder / "data.json").write_text(json.dumps(records), encoding="utf-8")


def in_folder(folder: Path, scale: float) -> tuple[dict[str, Any], dict[str, int]]:
    total = max(int(1024 * scale), 1)
    _named(folder, total)
    (folder / "images").mkdir()
    for n in range(total):
        (folder / "images" / f"{n:05d}.jpg").write_bytes(jpeg(n, 8 * 10**6))
    return {"format": "conversations", "files": ["data.json"], "images": "."}, {"kept": total}


def in_zip(folder: Path, scale: float) -> tuple[dict[str, Any], dict[str, int]]:
    total = max(int(1024 * scale), 1)
    _named(folder, total)
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for n in range(total):
            archive.writestr(f"images/{n:05d}.jpg", jpeg(n, 8 * 10**6))
    return {"format": "conversations", "files": ["data.json"], "images": "images.zip"}, {"kept": total}


def array(folder: Path, scale: float, name: str = "data.json") -> tuple[dict[str, Any], dict[str, int]]:
    """Records as in mix665k, 1.3 kB on average, without images; one has a word where a value should be."""
    draw, left, number = random.Random(1), int(5e9 * scale), 0
    block = [_record(draw) for _ in range(20_000)]
    with pa.output_stream(folder / name, compression="zstd" if name.endswith(".zst") else None) as sink:
        while left > 0:
            found = block if number else [*block[:9999], b'{"id": oops, "conversations": []}', *block[10_000:]]
            data = (b", " if number else b"[") + b",\n ".join(found)
            sink.write(data)
            left, number = left - len(data), number + len(block)
        sink.write(b"]")
    return {"format": "conversations", "files": [name]}, {"kept": number - 1, "malformed_record": 1}


def _record(draw: random.Random) -> bytes:
    turns = []
    for _ in range(draw.choice([1, 1, 2, 4])):
        turns.append({"from": "human", "value": " ".join(draw.choices(_WORDS, k=20))})
        turns.append({"from": "gpt", "value": " ".join(draw.choices(_WORDS, k=60))})
    return json.dumps({"id": f"{draw.randrange(10**9):012}", "conversations": turns}).encode()


def zst(folder: Path, scale: float) -> tuple[dict[str, Any], dict[str, int]]:
    return array(folder, scale, "data.json.zst")


def tar(folder: Path, scale: float) -> tuple[dict[str, Any], dict[str, int]]:
    total = max(int(5e9 * scale) // 200_000, 1)
    with tarfile.open(folder / "data.tar", "w") as archive:
        for n in range(total):
            for name, data in (
                (f"{n:08d}.jpg", jpeg(n, 200_000)),
                (f"{n:08d}.json", json.dumps({"caption": f"Noise {n}."}).encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return {"format": "webdataset", "files": ["*.tar"]}, {"kept": total}


def odd(folder: Path, scale: float) -> tuple[dict[str, Any], dict[str, int]]:
    """Rows too large in every way, each between two good ones."""
    good = jpeg(1, 100_000)
    (folder / "good.jpg").write_bytes(good)
    with (folder / "huge.jpg").open("wb") as stream:
        stream.write(good)
        stream.truncate(int(20e9 * scale) + 10**9)
    with (folder / "a.json").open("wb") as stream:
        row = json.dumps({"image": "good.jpg", "conversations": _TALK}).encode()
        stream.write(
            b"[" + row + b',{"image": "huge.jpg", "conversations": ' + json.dumps(_TALK).encode() + b'},{"id": "'
        )
        for _ in range(int(2000 * scale) + 100):
            stream.write(b"x" * 10**6)
        stream.write(b'"},' + row + b"]")
    image = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
    schema = pa.schema(
        [
            ("image", pa.list_(image)),
            ("conversations", pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))),
        ]
    )
    many = int(30 * scale) + 6  # a page holds 2 GiB, and a row lies in one page
    with pq.ParquetWriter(
        folder / "b.parquet", schema, write_batch_size=1, use_dictionary=False, compression="none"
    ) as sink:
        for count in (1, many, 1):
            talk = [{**_TALK[0], "value": "<image>" * count}, _TALK[1]]
            row = {"image": [{"bytes": good + bytes(50 * MIB), "path": None}] * count, "conversations": talk}
            if count == 1:
                row["image"] = [{"bytes": good, "path": None}]
            sink.write_table(pa.Table.from_pylist([row], schema))
    text = "x" * (int(1e9 * scale) + 10**8)
    rows = [{"image": None, "conversations": [{"from": "human", "value": t}, _TALK[1]]} for t in ("a", text, "b")]
    pq.write_table(pa.Table.from_pylist(rows[:2], schema), folder / "c.parquet", row_group_size=1)
    pq.write_table(pa.Table.from_pylist(rows[2:], schema), folder / "d.parquet")
    expected = {"kept": 6, "image_too_large": 1, "row_too_large": 3}
    return {"format": "conversations", "files": ["*.json", "*.parquet"], "images": "."}, expected


CASES: dict[str, Case] = {
    "inline": inline,
    "pages": pages,
    "group": group,
    "rows": rows,
    "folder": in_folder,
    "zip": in_zip,
    "array": array,
    "zst": zst,
    "tar": tar,
    "odd": odd,
}


# ---- measuring

# 3.8 million conversations: to tokenise them takes long, and shows nothing that a part of 1,024 doesn't
_INGEST_ONLY = ("hash", "ingest")


class Watch(threading.Thread):
    """The peaks of a process and all of its descendants, by what they are."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peaks, self.private, self.over = root, {}, {}, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.25):
            for process in _family(self.root):
                with contextlib.suppress(OSError, KeyError):
                    self._look(process)

    def _look(self, process: int) -> None:
        name = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        kind = "driver" if process == self.root else "worker" if name.startswith("ray::") else ""
        if not kind:
            return
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
        )
        peak, anonymous = (int(fields[key].split()[0]) // 1024 for key in ("VmHWM", "RssAnon"))
        self.peaks[kind, process] = max(peak, self.peaks.get((kind, process), 0))
        self.private[kind, process] = max(anonymous, self.private.get((kind, process), 0))

    def most(self, kind: str) -> tuple[int, int]:
        return tuple(
            max((v for (k, _), v in found.items() if k == kind), default=0) for found in (self.peaks, self.private)
        )  # type: ignore[return-value]


def _family(root: int) -> Iterator[int]:
    yield root
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{root}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _family(int(child))


@contextlib.contextmanager
def limited(mib: int) -> Iterator[Callable[[], None] | None]:
    """What a process calls to enter a memory cgroup of this size; None without a limit."""
    if not mib:
        yield None
        return
    old = Path("/sys/fs/cgroup/memory")
    folder = (old if old.is_dir() else Path("/sys/fs/cgroup")) / f"tessera-{os.getpid()}"
    folder.mkdir()
    (folder / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(mib * MIB))
    try:
        yield lambda: (folder / "cgroup.procs").write_text(str(os.getpid())) and None
    finally:
        for _ in range(50):
            try:
                folder.rmdir()
                break
            except OSError:
                time.sleep(0.2)


def measure(name: str, top: Path, scale: float, limit: int) -> str:
    data, out = top / name, top / f"{name}-out"
    data.mkdir()
    source, expected = CASES[name](data, scale)
    size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    recipe = {
        "data": {"sources": {"bench": source}, "ingest": {}, "pretokenise": {}},
        "run": {"out": str(out), "workers": 2, "locations": {"bench": str(data), "tokenizer": str(top / "tokenizer")}},
    }
    (top / f"{name}.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    started = time.monotonic()
    peaks: list[Watch] = []
    for command in _INGEST_ONLY if name in ("array", "zst") else ("run",):
        with limited(limit) as enter:
            line = [sys.executable, "-m", "pipeline", command, str(top / f"{name}.yaml")]
            process = subprocess.Popen(
                line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=enter
            )
            peaks.append(Watch(process.pid))
            peaks[-1].start()
            said, _ = process.communicate()
            peaks[-1].over.set()
            peaks[-1].join()
    seconds = time.monotonic() - started
    last = (said.strip().splitlines() or ["no word"])[-1]
    problem = "" if process.returncode == 0 else f"  FAILED with {process.returncode}: {last}"
    if not problem:
        (manifest,) = out.glob("*-ingest-*/manifest.json")
        counts = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
        found = {"kept": counts["kept"], **counts["rejected"]}
        problem = "" if found == expected else f"  WRONG COUNTS: {found}, expected {expected}"
    shutil.rmtree(data)
    shutil.rmtree(out, ignore_errors=True)
    peak, private = (max(found) for found in zip(*(watch.most("worker") for watch in peaks), strict=True))
    driver = max(watch.most("driver")[0] for watch in peaks)
    return (
        f"{name:<8} {size / 1e9:7.2f} GB  worker {peak:5,} MiB ({private:5,} private)  driver {driver:5,} MiB  "
        f"{seconds:6.0f} s  {size / 1e6 / seconds:5.0f} MB/s{problem}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--limit-mib", type=int, default=0)
    given = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="bench-memory-"))
    defects.write_corpus(top / "corpus", seed=1, scale=0.1)
    tokenizer.train(top / "corpus", top / "tokenizer")
    for name in given.cases:
        print(measure(name, top, given.scale, given.limit_mib), flush=True)
    shutil.rmtree(top)


if __name__ == "__main__":
    main()
