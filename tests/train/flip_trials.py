"""One bit of a shard is flipped, `fit` runs; again and again. A program of its own: a trial may end the process.

    python flip_trials.py CONFIG SHARDS SCRATCH FIRST_SEED COUNT [rehash]

Prints a line of JSON per trial: seed, file, offset, exit code (null: an exception came out), what went to stderr. With
`rehash` the map and the manifest are made to agree with the flipped bit, as one who forges shards would.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import random
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from schemas import shard_map
from schemas.manifest import describe
from train.__main__ import main


def flip(shards: Path, seed: int) -> tuple[Path, int]:
    """Flip one bit of one shard file; every bit of every one is as likely."""
    chance = random.Random(seed)
    files = sorted(shards.glob("*.arrow"))
    path = chance.choices(files, [file.stat().st_size for file in files])[0]
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return path, at


def rehash(shards: Path, path: Path) -> None:
    """The map has the hashes of the flipped bytes, in the ranges of the sound ones; the manifest has the files'."""
    beside = path.with_name(path.name.replace("shard-", "map-")).with_suffix(".json")
    known, data = shard_map.from_json(beside.read_bytes()), path.read_bytes()
    batches = tuple(
        dataclasses.replace(b, sha256=_sha256(data[b.start : b.images] + data[b.images_end : b.end]))
        for b in known.batches
    )
    rest = _sha256(data[: batches[0].start] + data[batches[-1].end :])
    beside.write_text(shard_map.ShardMap(batches, rest).to_json())
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["files"] = [dataclasses.asdict(describe(shards, entry["name"])) for entry in manifest["files"]]
    (shards / "manifest.json").write_text(json.dumps(manifest))


def trial(config: str, shards: Path, scratch: Path, seed: int, forged: bool) -> dict[str, Any]:
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(shards, scratch / "shards")
    path, at = flip(scratch / "shards", seed)
    if forged:
        rehash(scratch / "shards", path)
    code, stderr = None, io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(stderr):
        try:
            code = main(["fit", config])
        except Exception:  # noqa: BLE001 - what no trial may come to
            traceback.print_exc()
    return {"seed": seed, "file": path.name, "at": at, "code": code, "stderr": stderr.getvalue()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    config, shards, scratch, first, count, *rest = sys.argv[1:]
    for seed in range(int(first), int(first) + int(count)):
        print(json.dumps(trial(config, Path(shards), Path(scratch), seed, bool(rest))), flush=True)
