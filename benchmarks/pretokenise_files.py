"""What both phases of pretokenise cost from file to file, beside the tokenizer alone and a copy of the images' file.

    python -m benchmarks.pretokenise_files [--rows 512] [--rounds 5]

A part of samples with an image of 100 kB each and three turns (made_up.py), in CPU time of one core; the fastest round
counts. `theirs` is `encode_batch` of the conversations as the chat template prints them, and a file with the images
read and written anew. `rows` and `shards` are the tasks as a worker does them: proofs, hashes, maps and records of what
is written are in them. Beside them what the proofs alone take: sha256 of the images once when they are read, once
when the shard is described.
"""

from __future__ import annotations

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each

import argparse
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from benchmarks.made_up import Words, byte_level, rendered
from pipeline.steps import part_rows, shard_files
from pipeline.steps.part_rows import RowsJob
from pipeline.steps.samples import Part
from pipeline.steps.shard_files import PHASE, ShardJob, Span
from pipeline.storage.part_writer import PartWriter, write_parquet
from schemas.sample import SAMPLE
from stages.chat import ImageTokens
from stages.images.hashes import sha256
from stages.shard_rows import PretokeniseParams

_TURNS, _WORDS, _IMAGE = 3, 120, 100_000
TOKENS = ImageTokens("<image>", "<img>", "</img>")


def samples(count: int) -> pa.Table:
    """SAMPLE rows."""
    words, rows = Words(2), []
    for number in range(count):
        image = os.urandom(_IMAGE)
        info = {"sha256": sha256(image), "size": _IMAGE, "width": 1024, "height": 768}
        rows.append(
            {
                "sample_id": f"made/up/rows.json#{number}",
                **{"source": "made", "subset": "up", "licence": "cc0-1.0", "declared_language": None, "scores": []},
                "messages": words.talk(_TURNS, _WORDS),
                "images": [{"bytes": image, "path": f"{number}.jpg"}],
                "image_info": [info],
            }
        )
    return pa.Table.from_pylist(rows, SAMPLE)


def fastest(rounds: int, work: Callable[[], object]) -> float:
    """Seconds of CPU."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def copied(source: Path, target: Path) -> None:
    """A file read and written anew, and flushed."""
    with source.open("rb") as reader, target.open("wb") as writer:
        while data := reader.read(1 << 20):
            writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())


def measured(top: Path, count: int, rounds: int) -> dict[str, float]:
    """Seconds of CPU by name."""
    table = samples(count)
    part = Part(str(top / "part-00000.parquet"), "made", count)
    write_parquet((table.slice(start, 128) for start in range(0, count, 128)), SAMPLE, Path(part.path))
    words = Words(1)
    tokenizer = byte_level([words.text(80) for _ in range(3000)])
    tokenizer.save_pretrained(top / "tokenizer")
    params = PretokeniseParams(tokens=TOKENS)
    rows_job = RowsJob(amount=count, part=part, verdicts=(), tokenizer=str(top / "tokenizer"), params=params)
    made: list[PartWriter] = []

    def rows() -> None:
        made.append(PartWriter(top / "out" / PHASE, 1))  # the first one writes the tokenizer too
        part_rows.do(rows_job, made[-1])

    (top / "out" / PHASE).mkdir(parents=True)
    rows()
    span = Span(1, part, made[-1].entries[0], 0, -(-count // 128))
    shard_job = ShardJob(amount=count, folder=str(top / "out" / PHASE), spans=(span,), begun=((1, "made"),))
    texts = [rendered(row["messages"]) for row in table.to_pylist()]
    backend = tokenizer.backend_tokenizer
    bytes_of = [row["images"][0]["bytes"] for row in table.select(["images"]).to_pylist()]
    images = top / "images"
    images.write_bytes(b"".join(bytes_of))
    return {
        "encode_batch": fastest(rounds, lambda: backend.encode_batch(texts, add_special_tokens=False)),
        "copy": fastest(rounds, lambda: copied(images, top / "copy")),
        "rows": fastest(rounds, rows),
        "shards": fastest(rounds, lambda: shard_files.do(shard_job, PartWriter(top / "out", 0))),
        "one sha256": fastest(rounds, lambda: [hashlib.sha256(data).digest() for data in bytes_of]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="bench-pretokenise-"))
    try:
        found = measured(top, given.rows, given.rounds)
    finally:
        shutil.rmtree(top)
    print("| what | microseconds a row |\n|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {seconds / given.rows * 1e6:,.0f} |")
    theirs, ours = found["encode_batch"] + found["copy"], found["rows"] + found["shards"]
    print(f"| ratio | {ours / theirs:.2f} ({(ours - 2 * found['one sha256']) / theirs:.2f} without both proofs) |")


if __name__ == "__main__":
    main()
