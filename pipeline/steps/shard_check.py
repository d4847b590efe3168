"""Is a shard folder what its manifest says? Schemas, and that every number follows from the rows.

Checks in this order and stops at the first fault: the schema of every shard and of the index; each sample's counts,
spans and tiles against its token ids; the index against the shards; the totals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.manifest import Manifest, ManifestError
from schemas.shard import COUNTS, INDEX, SHARD
from stages.pretokenise import totals
from stages.tiles.scheme import Grid
from stages.tiles.table import TileScheme, recorded


def check_shards(folder: Path, manifest: Manifest) -> None:
    """Raises ManifestError naming the first fault; the files' hashes are proven before."""
    index = pq.read_table(folder / "index.parquet")
    if not index.schema.equals(INDEX):
        raise ManifestError(f"{folder / 'index.parquet'}: its schema is not INDEX; run pretokenise again")
    expected = iter(index.to_pylist())
    scheme, image = recorded(manifest.facts["tiles"]), manifest.facts["image_token_id"]
    names = [file.name for file in manifest.files if file.name.endswith(".arrow")]
    for number, name in enumerate(names):
        for row, sample in enumerate(_rows(folder / name)):
            where = f"{folder / name} row {row} ({sample['sample_id']})"
            _check_sample(sample, scheme, image, where)
            line = next(expected, None)
            own = {key: sample.get(key) for key in INDEX.names} | {"shard": number, "row": row}
            if line != own:
                raise ManifestError(f"{where}: the index says {line}, the shard {own}")
    if next(expected, None) is not None or index.num_rows != manifest.counts.kept:
        raise ManifestError(f"{folder}: {index.num_rows:,} rows in the index, {manifest.counts.kept:,} kept")
    if totals(index) != manifest.facts["totals"]:
        raise ManifestError(
            f"{folder}: totals {manifest.facts['totals']} in the manifest, {totals(index)} in the index"
        )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        if not reader.schema.equals(SHARD):
            raise ManifestError(f"{path}: its schema is not SHARD; run pretokenise again")
        for number in range(reader.num_record_batches):
            yield from reader.get_batch(number).to_pylist()


def _check_sample(sample: Mapping[str, Any], scheme: TileScheme, image: int, where: str) -> None:
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
    if len(tiles) != len(sample["images"]):
        raise ManifestError(f"{where}: {len(tiles)} tile plans for {len(sample['images'])} images")
    for tile, grid in zip(tiles, grids, strict=True):
        run = ids[tile["start"] : tile["start"] + tile["num_tokens"]].count(image)
        if run != grid.num_tiles * scheme.tokens_per_tile:
            raise ManifestError(f"{where}: {run} image tokens for {grid.num_tiles} tiles of {scheme.tokens_per_tile}")
    if ids.count(image) != sum(grid.num_tiles for grid in grids) * scheme.tokens_per_tile:
        raise ManifestError(f"{where}: image tokens outside the images' ranges")
