"""Samples -> SKETCH rows: what is compared of a sample, under keys that duplicates have in common.

Only samples of one key are ever compared, so rows are exchanged by it: all rows of a key come into one bucket, and no
process sees all samples. With `unit: sample` or `text` the key is the conversation, and a sample has one. With
`unit: image` it is a band of the first picture's pHash, and a sample has radius + 1 of them: hashes that differ in at
most `radius` bits are equal in one band at least (the pigeonhole principle). `home` is true of one row of each sample.
Texts that are not equal meet by rows of their own (text_sketch.py).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.sample import IMAGE_INFO
from stages.duplicates.params import DedupeParams
from stages.duplicates.text_sketch import content_hash
from stages.filters.text_key import conversation_key

LOOK = (
    "sha256",
    "size",
    "width",
    "height",
    "phash",
    "grey",
    "detail",
    "plain",
)  # of image_info, what pictures are compared by
IMAGES = pa.list_(pa.struct([IMAGE_INFO.value_type.field(name) for name in LOOK]))

SKETCH = pa.schema(
    [
        ("bucket", pa.int32()),
        ("key", pa.binary()),
        ("home", pa.bool_()),
        ("part", pa.int32()),
        ("row", pa.int32()),
        ("sample_id", pa.string()),
        ("source", pa.int32()),
        ("pixels", pa.int64()),
        ("rating", pa.float32()),
        ("content", pa.binary(16)),
        ("pictures", pa.binary(16)),
        ("images", IMAGES),
    ]
)

# What is read of SAMPLE, in parquet's names
COLUMNS = (
    *("sample_id", "messages", "scores"),
    *(f"image_info.list.element.{name}" for name in LOOK),
)

_BITS = 64


def sketches(samples: pa.Table, part: int, first: int, source: int, params: DedupeParams, buckets: int) -> pa.Table:
    """SKETCH rows of samples, a few for each. `first`: the number of the first one in its part; `source`: the place of
    theirs in the recipe's order."""
    rows = []
    for number, sample in enumerate(samples.to_pylist(), first):
        said = conversation_key(sample["messages"])
        row = sketch(sample, said, part, number, source)
        for turn, key in enumerate(_keys(row, said, params)):
            bucket = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % buckets
            rows.append({**row, "bucket": bucket, "key": key, "home": not turn})
    return pa.Table.from_pylist(rows, SKETCH)


def sketch(sample: Mapping[str, Any], said: bytes, part: int, number: int, source: int) -> dict[str, Any]:
    """The row of one sample, without a key. `said`: the key of its conversation."""
    infos = sample["image_info"]
    pictures = [info["sha256"] for info in infos]
    return {
        **{"part": part, "row": number, "sample_id": sample["sample_id"], "source": source},
        "pixels": sum(info["width"] * info["height"] for info in infos),
        "rating": _rating(sample["scores"]),
        "content": content_hash(said, pictures),
        "pictures": content_hash(b"", pictures),
        "images": infos,
    }


def _keys(row: Mapping[str, Any], said: bytes, params: DedupeParams) -> Iterator[bytes]:
    infos = row["images"]
    if infos and params.unit == "text":
        yield f"pictures of part {row['part']}, row {row['row']}".encode()  # a key that no other sample has
        return
    if params.unit != "image" or not infos:
        yield said
        return
    for band, value in enumerate(bands(infos[0]["phash"], params.match.radius + 1)):
        yield f"{len(infos)} images, band {band}: {value}".encode()


def bands(phash: int, number: int) -> Iterator[int]:
    """The bits of a 64-bit hash in so many bands, of sizes that differ by one at the most."""
    edges = np.linspace(0, _BITS, min(number, _BITS) + 1).astype(int).tolist()
    for start, end in itertools.pairwise(edges):
        yield phash >> start & (1 << end - start) - 1


def _rating(scores: list[Mapping[str, float]] | None) -> float | None:
    values = [score["value"] for score in scores or []]
    return sum(values) / len(values) if values else None
