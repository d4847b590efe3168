"""What it costs to read shards: a row anywhere in a large one, and to open a folder of thousands.

`rows`: a shard of 512 MiB with images of about 100 kB, memory-mapped and in the page cache. A row is read as the
trainer reads it: proven, its ids and spans as arrays, its images as views of the file. Beside it the sha256 of its
images alone, which the proof can't do without; and the first row of a batch that nobody has read before, which proves
the batch. `open`: a folder with a manifest of so many shards (holes of their size), their maps, indexes and verdicts,
and an index of real rows.

    python -m benchmarks.shards
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import random
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.storage.part_writer import write_parquet
from schemas import fingerprints, shard_map
from schemas.fingerprints import Fingerprints
from schemas.manifest import Counts, FileEntry, Manifest, describe
from schemas.shard import COUNTS, INDEX, SHARD
from stages.chat import ImageTokens
from stages.chat_rules import ChatRules
from stages.tiles.internvl import InternVL
from train.data.shards import Shards

_IMAGE, _TOKENS, _BATCH = 100_000, 3600, 128


def row(number: int, chance: random.Random) -> dict[str, object]:
    """A row with a picture of 13 tiles in it, and 300 tokens of text."""
    image = chance.randbytes(_IMAGE)
    tile = {"scheme": "internvl", "rows": 3, "cols": 4, "thumbnail": True, "width": 1024, "height": 768}
    return {
        "sample_id": f"fine/train-{number:05d}.parquet#{number}",
        **{"source": "fine", "subset": "docvqa", "licence": "cc-by-4.0", "language": "en"},
        "input_ids": [chance.randrange(100, 30_000) for _ in range(_TOKENS)],
        "target_spans": [[3400, 3450], [3500, 3550]],
        "label_changes": [],
        "image_sha256": [hashlib.sha256(image).hexdigest()],
        "tiles": [{**tile, "start": 10, "num_tokens": 3330}],
        **dict(zip(COUNTS, (_TOKENS, 270, 3330, 100, 13), strict=True)),
        "scores": [{"name": "language.confidence", "value": 0.9}],
        "messages": None,
        "images": [{"bytes": image, "path": None}],
    }


def write(folder: Path, entries: list[FileEntry], index: pa.Table) -> Shards:
    """A folder of these shards, opened."""
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}", encoding="ascii")
    token = describe(folder, "tokenizer/tokenizer.json")
    prints: Fingerprints = fingerprints.taken({"tokenizer.json": token.sha256}, dataclasses.asdict(InternVL()))
    schema = fingerprints.written(INDEX, prints)
    write_parquet([index.replace_schema_metadata(schema.metadata)], schema, folder / "index.parquet")
    entries += [token, describe(folder, "index.parquet", index.num_rows)]
    rows = index.num_rows
    facts = {
        "tiles": dataclasses.asdict(InternVL()),
        "tokens": dataclasses.asdict(ImageTokens(ids={"<image>": 3})),
        "chat": dataclasses.asdict(ChatRules()),
        **{"image_token_id": 3, "vocab_size": 32_000, "rows": rows, "fingerprints": dataclasses.asdict(prints)},
    }
    made = Manifest("pretokenise", 7, "0" * 64, {}, {}, Counts(rows, rows), {}, tuple(entries), facts)
    (folder / "manifest.json").write_text(made.to_json(), encoding="utf-8")
    return Shards(folder)


def indexed(shard: np.ndarray, number: np.ndarray) -> pa.Table:
    same = {"sample_id": "fine/train-00000.parquet#0", "source": "fine", "subset": "docvqa", "language": "en"}
    columns = {name: pa.repeat(value, len(shard)) for name, value in same.items()}
    columns |= {name: pa.array(np.full(len(shard), 100, np.int32)) for name in COUNTS}
    columns |= {"shard": pa.array(shard.astype(np.int32)), "row": pa.array(number.astype(np.int32))}
    return pa.table([columns[name] for name in INDEX.names], schema=INDEX)


def rows(folder: Path, megabytes: int, seed: int = 0) -> None:
    """Print what a random row costs."""
    chance, count = random.Random(seed), megabytes * 1024 * 1024 // (_IMAGE + 4 * _TOKENS)
    path = folder / "shard-00000.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SHARD) as writer:
        for first in range(0, count, _BATCH):
            some = [row(number, chance) for number in range(first, min(first + _BATCH, count))]
            writer.write_table(pa.Table.from_pylist(some, SHARD))
    (folder / "map-00000.json").write_text(shard_map.survey(path).to_json(), encoding="utf-8")
    index = indexed(np.zeros(count), np.arange(count))
    columns = {
        name: pa.repeat(pa.scalar(n, pa.int32()), count) for name, n in (("num_tokens", _TOKENS), ("num_tiles", 13))
    }
    for name, column in columns.items():
        index = index.set_column(index.schema.get_field_index(name), name, column)
    opened = write(folder, [describe(folder, "shard-00000.arrow"), describe(folder, "map-00000.json")], index)
    first = [timed(lambda n=n: opened.sample(n)) for n in range(0, count, _BATCH)][1:]  # type: ignore[misc]
    numbers = [chance.randrange(count) for _ in range(2000)]
    again = [timed(lambda n=n: opened.sample(n)) for n in numbers]  # type: ignore[misc]
    images = [opened.sample(n).images[0] for n in numbers]
    hashes = [timed(lambda image=image: hashlib.sha256(image).digest()) for image in images]  # type: ignore[misc]
    print("| what | milliseconds |\n|---|---|")
    print(f"| a random row of {count:,}, in one shard of {path.stat().st_size / 2**20:,.0f} MiB | {mean(again):.3f} |")
    print(f"| of that: sha256 of its image | {mean(hashes):.3f} |")
    print(f"| the first row of a batch of {_BATCH}, which is proven then | {mean(first):.3f} |")


def opening(folder: Path, shards: int, each: int) -> None:
    """Print what it takes to open many shards."""
    entries = []
    for number in range(shards):
        files = {f"shard-{number:05d}.arrow": 512 << 20, f"map-{number:05d}.json": 5000}
        files |= {f"index-{number:05d}.parquet": 50_000}
        files |= {f"verdict-{3 * number + n:05d}.parquet": 20_000 for n in range(3)}
        for name, size in files.items():
            with (folder / name).open("wb") as stream:
                stream.truncate(size)
            entries.append(FileEntry(name, size, "0" * 64, each))
    write(folder, entries, indexed(np.repeat(np.arange(shards), each), np.tile(np.arange(each), shards)))
    best = min(timed(lambda: Shards(folder)) for _ in range(3))
    print(f"| open {shards:,} shards with {shards * each:,} rows | {best:,.0f} |")


def timed(do) -> float:  # type: ignore[no-untyped-def]
    """Milliseconds."""
    started = time.perf_counter()
    do()
    return 1000 * (time.perf_counter() - started)


def mean(found: list[float]) -> float:
    return sum(found) / len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1000, help="of each of the shards that are opened")
    given = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="bench-shards-"))
    try:
        for name, measure in (
            ("rows", lambda folder: rows(folder, given.megabytes)),
            ("open", lambda folder: opening(folder, given.shards, given.rows)),
        ):
            (top / name).mkdir()
            measure(top / name)
    finally:
        shutil.rmtree(top)


if __name__ == "__main__":
    main()
