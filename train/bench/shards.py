"""Writes a folder of made-up shards: samples of a corpus by their lengths, random ids, JPEGs of soft noise.

The trainer reads it like any other: manifest, index, maps and hashes are there. A few pictures of each size are drawn
and used again, each row with its own copy, so reading and decoding cost what they cost with as many different ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from schemas import fingerprints, shard_map
from schemas.identity import fingerprint
from schemas.manifest import MANIFEST, Counts, Manifest, describe
from schemas.shard import COUNTS, INDEX, SHARD
from stages.tiles.scheme import Size
from train.bench.corpora import TOKENIZER, Corpus, Drawn, image_ids
from train.data.shards import STAGE, Facts

_BATCH, _PICTURES = 64, 8
_SHARD = "shard-00000.arrow"


def write(folder: Path, corpus: Corpus, drawn: Drawn, facts: Facts) -> None:
    """A finished shard folder, in one that is there and empty."""
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_bytes(TOKENIZER)
    index = []
    with pa.OSFile(str(folder / _SHARD), "wb") as sink, pa.ipc.new_file(sink, SHARD) as writer:
        for rows in _batches(corpus, drawn, facts):
            writer.write_table(pa.Table.from_pylist(rows, SHARD))
            index += [{name: row.get(name) for name in INDEX.names} for row in rows]
    places = [{**row, "shard": 0, "row": number} for number, row in enumerate(index)]
    schema = fingerprints.written(INDEX, facts.fingerprints)
    pq.write_table(pa.Table.from_pylist(places, schema), folder / "index.parquet")
    (folder / "map-00000.json").write_text(shard_map.survey(folder / _SHARD).to_json(), encoding="utf-8")
    _finish(folder, facts, len(places))


def _finish(folder: Path, facts: Facts, rows: int) -> None:
    """The manifest."""
    names = (_SHARD, "map-00000.json", "index.parquet", "tokenizer/tokenizer.json")
    files = tuple(describe(folder, name) for name in names)
    told = {key: value for key, value in dataclasses.asdict(facts).items() if key != "scheme"}
    told |= {"tiles": dataclasses.asdict(facts.scheme), "rows": rows}
    identity = fingerprint([dataclasses.asdict(entry) for entry in files])
    made = Manifest(STAGE, 1, identity, {}, {}, Counts(rows, rows), {}, files, told)
    (folder / MANIFEST).write_text(made.to_json(), encoding="utf-8")


def _batches(corpus: Corpus, drawn: Drawn, facts: Facts) -> Iterator[list[dict[str, Any]]]:
    sizes = [*corpus.sizes]
    pictures = [[_jpeg(seed, size) for seed in range(_PICTURES)] for size in sizes]
    tokens = [image_ids(corpus, size, facts) for size in sizes]
    random = np.random.default_rng(1)
    for first in range(0, len(drawn.text), _BATCH):
        rows = []
        for number in range(first, min(first + _BATCH, len(drawn.text))):
            at = int(drawn.picture[number])
            text = random.integers(0, facts.vocab_size // 2, drawn.text[number])  # rows that every head has
            image = _image(corpus, sizes[at], tokens[at], pictures[at][number % _PICTURES]) if at >= 0 else _NONE
            rows.append(_row(number, drawn, image, np.concatenate([tokens[at], text]) if at >= 0 else text))
        yield rows


_NONE: dict[str, Any] = {"images": [], "image_sha256": [], "tiles": []}


def _image(corpus: Corpus, size: Size, ids: list[int], data: bytes) -> dict[str, Any]:
    """What a row has of its picture, which stands at its beginning."""
    grid = corpus.scheme.grid(*size)._asdict()
    place = {"width": size[0], "height": size[1], "start": 0, "num_tokens": len(ids)}
    return {
        "images": [{"bytes": data, "path": None}],
        "image_sha256": [hashlib.sha256(data).hexdigest()],
        "tiles": [{"scheme": corpus.scheme.scheme, **grid, **place}],
    }


def _row(number: int, drawn: Drawn, image: dict[str, Any], ids: np.ndarray) -> dict[str, Any]:
    """A SHARD row; its last tokens are the targets."""
    columns = (drawn.tokens, drawn.text, drawn.image, drawn.targets, drawn.tiles)
    counts = {name: int(column[number]) for name, column in zip(COUNTS, columns, strict=True)}
    return {
        **{"sample_id": f"made-up/{number}", "source": "made-up", "subset": "made-up", "language": "en"},
        **{"licence": None, "messages": None, "scores": [], "label_changes": []},
        "input_ids": ids,
        "target_spans": [[len(ids) - int(drawn.targets[number]), len(ids)]],
        **image,
        **counts,
    }


def _jpeg(seed: int, size: Size) -> bytes:
    """Soft noise and a finer one, as large as a photograph's file: about 100 kB at 1024 x 768."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, "gray")
    for step, weight in ((64, 0.8), (12, 0.3)):
        noise = random.integers(0, 256, (size[1] // step + 2, size[0] // step + 2, 3), np.uint8)
        image = Image.blend(image, Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), weight)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
