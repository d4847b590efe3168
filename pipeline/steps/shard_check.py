"""Is a shard folder what its manifest says? Schemas, and that every number follows from the rows.

Checks in this order and stops at the first fault: the schema of every shard and of the index; each sample's counts,
spans, images and tiles against its token ids; the index and the maps against the shards. (The facts are proven before.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.storage import layout
from pipeline.storage.part_reader import read
from schemas import shard_map
from schemas.manifest import Manifest, ManifestError
from schemas.shard import COUNTS, INDEX, SHARD
from stages.chat import ImageTokens
from stages.tiles.scheme import Grid, Kind, Runs
from stages.tiles.table import TileScheme, recorded


class _Made(NamedTuple):
    """How the shards were made: the scheme, the tokens of images, the image token's id, and the vocabulary."""

    scheme: TileScheme
    tokens: ImageTokens
    image: int
    vocab_size: int


def check_shards(folder: Path, manifest: Manifest) -> None:
    """Raises ManifestError naming the first fault; the files' hashes are proven before."""
    index = read(folder / "index.parquet", schema=INDEX)
    expected = iter(index.to_pylist())
    facts = manifest.facts
    tokens = ImageTokens(**facts["tokens"])
    made = _Made(recorded(facts["tiles"]), tokens, facts["image_token_id"], facts["vocab_size"])
    names = [file.name for file in manifest.files if layout.is_a("shard", file.name)]
    for number, name in sorted((layout.number_of(name), name) for name in names):
        for row, sample in enumerate(_rows(folder / name)):
            where = f"{folder / name} row {row} ({sample['sample_id']})"
            _check_sample(sample, made, where)
            line = next(expected, None)
            own = {key: sample.get(key) for key in INDEX.names} | {"shard": number, "row": row}
            if line != own:
                raise ManifestError(f"{where}: the index says {line}, the shard {own}")
        _check_map(folder, number)
    if next(expected, None) is not None or index.num_rows != facts["rows"]:
        raise ManifestError(f"{folder}: {index.num_rows:,} rows in the index, {facts['rows']:,} written")


def _check_map(folder: Path, number: int) -> None:
    """What the trainer proves a shard's batches by is what the shard holds."""
    path = folder / layout.shard_map(number)
    try:
        found = shard_map.from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: can't be read as the map of a shard ({error}); run pretokenise again") from None
    if found != shard_map.survey(folder / layout.shard(number)):
        raise ManifestError(f"{path}: is not the map of {layout.shard(number)}; run pretokenise again")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        if not reader.schema.equals(SHARD):
            raise ManifestError(f"{path}: its schema is not SHARD; run pretokenise again")
        for number in range(reader.num_record_batches):
            yield from reader.get_batch(number).to_pylist()


def _check_sample(sample: Mapping[str, Any], made: _Made, where: str) -> None:
    ids, spans, tiles = sample["input_ids"], sample["target_spans"], sample["tiles"]
    grids = [Grid(tile["rows"], tile["cols"], tile["thumbnail"]) for tile in tiles]
    num_image_tokens = sum(tile["num_tokens"] for tile in tiles)
    found = (
        len(ids),
        len(ids) - num_image_tokens,
        num_image_tokens,
        sum(end - start for start, end in spans),
        sum(grid.num_tiles for grid in grids),
    )
    for name, number in zip(COUNTS, found, strict=True):
        if sample[name] != number:
            raise ManifestError(f"{where}: {name} is {sample[name]}, its rows give {number}")
    edges = [edge for span in spans for edge in span]
    if edges != sorted(edges) or (edges and (edges[0] < 0 or edges[-1] > len(ids))):
        raise ManifestError(f"{where}: target spans {spans} are not ordered inside {len(ids)} tokens")
    _check_labels(sample, made, where)
    if len(tiles) != len(sample["images"]):
        raise ManifestError(f"{where}: {len(tiles)} tile plans for {len(sample['images'])} images")
    hashes = [hashlib.sha256(image["bytes"]).hexdigest() for image in sample["images"]]
    if hashes != sample["image_sha256"]:
        raise ManifestError(f"{where}: sha256 of its images {hashes}, image_sha256 says {sample['image_sha256']}")
    owned = sum(_check_tile(tile, grid, ids, made, where) for tile, grid in zip(tiles, grids, strict=True))
    if ids.count(made.image) != owned:
        raise ManifestError(f"{where}: image tokens outside the images' ranges")


def _check_labels(sample: Mapping[str, Any], made: _Made, where: str) -> None:
    """Only a target is labelled as another token, in order, and as one that there is."""
    places = [change["position"] for change in sample["label_changes"]]
    targets = {place for start, end in sample["target_spans"] for place in range(start, end)}
    labels = [change["id"] for change in sample["label_changes"]]
    known = all(0 <= label < made.vocab_size for label in labels)
    if places != sorted(set(places) & targets) or not known:
        raise ManifestError(f"{where}: label changes {sample['label_changes']} are not of its targets to known tokens")


def _check_tile(tile: Mapping[str, Any], grid: Grid, ids: Sequence[int], made: _Made, where: str) -> int:
    """An image's grid is one for its size, and its range holds the tokens of that grid: how many image tokens."""
    size = tile["width"], tile["height"]
    possible = made.scheme.possible(*size)
    if tile["scheme"] != made.scheme.scheme or grid not in possible:
        wanted = f"{made.scheme.scheme} makes {' or '.join(map(str, possible))}"
        raise ManifestError(f"{where}: {tile['scheme']} {grid} for an image of {size[0]} x {size[1]}, {wanted}")
    start, end = tile["start"], tile["start"] + tile["num_tokens"]
    wanted_ids = _images(made.scheme.runs(grid, *size), made.tokens)
    if start < 0 or [token == made.image for token in ids[start:end]] != wanted_ids:
        raise ManifestError(f"{where}: ids {start} to {end} are not the image tokens of {grid.num_tiles} tiles")
    return sum(wanted_ids)


def _images(runs: Runs, tokens: ImageTokens) -> list[bool]:
    """Of each token of an image whether it is the image token."""
    named: dict[Kind, str | None] = {"patch": tokens.image, "start": tokens.start, "end": tokens.end}
    named["row"] = tokens.row or tokens.image
    return [named[kind] == tokens.image for kind, number in runs if named[kind] for _ in range(number)]
