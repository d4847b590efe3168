"""What lies where in a shard file, and the hashes of it: so that nothing of it is parsed before it is proven.

Arrow's readers trust what they map: a flipped bit in an offset or in a header can end the process. So a small file lies
beside every shard, `map-NNNNN.json`, whose own hash is in the manifest. It divides the shard without a gap:

  batch      one record batch: the bytes from `start` to `end` without the image bytes in its middle, from `images` to
             `images_end`; `sha256` is of those narrow bytes, its header included. The images have hashes of their own,
             the column `image_sha256`
  rest       sha256 of what belongs to no batch: the schema before the first one, the footer after the last

A reader takes one batch, hashes its narrow bytes, and only then lets Arrow see them. Nothing is read of the footer, so
a shard of any size costs what is used of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from schemas import strict
from schemas.shard import MAY_BE_NULL, SHARD

_MAGIC = 8  # bytes before the schema


class Damaged(ValueError):
    """Bytes are not those that were written: what, in a few words."""


@dataclass(frozen=True)
class Batch:
    """One record batch of a shard file: see above."""

    start: int
    images: int
    images_end: int
    end: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class ShardMap:
    """The batches of a shard file in their order, and the hash of what is around them."""

    batches: tuple[Batch, ...]
    rest: str

    def __post_init__(self) -> None:
        for batch in self.batches:
            if not 0 <= batch.start <= batch.images <= batch.images_end <= batch.end or batch.rows < 1:
                raise ValueError(f"{batch} is no batch")
        if any(before.end != after.start for before, after in pairwise(self.batches)):
            raise ValueError("the batches don't follow each other")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True) + "\n"


def from_json(text: str | bytes) -> ShardMap:
    """Raises ValueError for what is no map."""
    try:
        return strict.build(ShardMap, json.loads(text))
    except RecursionError:
        raise ValueError("nested without end") from None


def mapped(path: Path) -> pa.Buffer:
    """The bytes of a shard file, memory-mapped; no file stays open."""
    with pa.memory_map(str(path)) as source:
        return source.read_buffer()


def survey(path: Path) -> ShardMap:
    """The map of a whole shard file. Parses it: of a file just written, or one whose hash is proven."""
    data = mapped(path)
    batches = tuple(_batches(data))
    return ShardMap(batches, _rest(data, batches))


def check_rest(data: pa.Buffer, of: ShardMap) -> None:
    """Raise Damaged unless the bytes around the batches are those of the map."""
    if of.batches and of.batches[-1].end > len(data):
        raise Damaged(f"{len(data):,} bytes, its map speaks of {of.batches[-1].end:,}")
    if _rest(data, of.batches) != of.rest:
        raise Damaged("the bytes of its schema or footer differ from the manifest's sha256")


def check_batch(data: pa.Buffer, batch: Batch) -> None:
    """Raise Damaged unless a batch's narrow bytes are those of the map, and all its arrays are sound."""
    if batch.end > len(data) or _narrow(data, batch.start, batch.images, batch.images_end, batch.end) != batch.sha256:
        raise Damaged("its bytes differ from the manifest's sha256")
    try:
        found = read_batch(data, batch)
        found.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(f"Arrow can't read it ({' '.join(str(error).split())})") from None
    if found.num_rows != batch.rows:
        raise Damaged(f"{found.num_rows} rows, its map says {batch.rows}")
    empty = [name for name in SHARD.names if name not in MAY_BE_NULL and _has_null(found[name])]
    if empty:
        raise Damaged(f"rows without {empty[0]}")


def read_batch(data: pa.Buffer, batch: Batch) -> pa.RecordBatch:
    """A batch that has passed `check_batch`; nothing is copied."""
    message = pa.ipc.read_message(data.slice(batch.start, batch.end - batch.start))
    return pa.ipc.read_record_batch(message, SHARD)


def _has_null(array: pa.Array) -> bool:
    """Whether something is missing in a column, at any depth; an image's path may be."""
    if array.null_count:
        return True
    if pa.types.is_struct(array.type):
        return any(_has_null(array.field(field.name)) for field in array.type if field.name != "path")
    return pa.types.is_nested(array.type) and _has_null(array.values)


def _batches(data: pa.Buffer) -> Iterator[Batch]:
    source = pa.BufferReader(data)
    source.seek(_MAGIC)
    pa.ipc.read_message(source)  # the schema
    start = source.tell()
    while True:
        try:
            found = pa.ipc.read_record_batch(pa.ipc.read_message(source), SHARD)
        except EOFError:
            return
        end = source.tell()
        images, images_end = _image_bytes(found, data, end)
        yield Batch(start, images, images_end, end, found.num_rows, _narrow(data, start, images, images_end, end))
        start = end


def _image_bytes(batch: pa.RecordBatch, data: pa.Buffer, end: int) -> tuple[int, int]:
    """Where the image bytes of a batch lie in its file, all of them some image's; an empty range if it has none."""
    lists = batch.column("images")
    first, last = lists.offsets[0].as_py(), lists.offsets[-1].as_py()
    images = lists.values.slice(first, last - first).field("bytes")
    _, offsets, buffer = images.buffers()
    if not len(images) or not buffer:
        return end, end
    edges, base = memoryview(offsets).cast("i"), buffer.address - data.address
    return base + edges[images.offset], base + edges[images.offset + len(images)]


def _narrow(data: pa.Buffer, start: int, images: int, images_end: int, end: int) -> str:
    return _hash(data.slice(start, images - start), data.slice(images_end, end - images_end))


def _rest(data: pa.Buffer, batches: tuple[Batch, ...]) -> str:
    start, end = (batches[0].start, batches[-1].end) if batches else (0, 0)
    return _hash(data.slice(0, start), data.slice(end))


def _hash(*pieces: pa.Buffer) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
