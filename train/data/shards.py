"""Shards -> samples by global index: memory-mapped, no order, no randomness.

Reads a finished shard folder: `manifest.json`, `index.parquet`, `shard-NNNNN.arrow`. Global index i is row i of the
index. Opening compares every file's size with the manifest (cut and mixed-up folders are refused at once; hashing
terabytes before each start is what `pipeline verify` is for). Tile scheme, special tokens and vocabulary come from
the manifest's facts and from nowhere else, so the model can't be built for other tokens than the shards hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import manifest, shard, strict
from schemas.manifest import Manifest, ManifestError
from stages.chat import ImageTokens
from stages.tiles.scheme import Grid
from stages.tiles.table import TileScheme, recorded

STAGE = "pretokenise"


@dataclass(frozen=True)
class ImageSpan:
    """The grid of one image and the range [start, start + num_tokens) of input_ids it owns, framing tokens included."""

    grid: Grid
    start: int
    num_tokens: int


@dataclass(frozen=True)
class Sample:
    """One training sample as the shard holds it; `images` are the original encoded bytes."""

    sample_id: str
    input_ids: np.ndarray
    target_spans: np.ndarray
    images: tuple[bytes, ...]
    image_spans: tuple[ImageSpan, ...]


@dataclass(frozen=True)
class Facts:
    """What a model must know of the shards it learns from."""

    scheme: TileScheme
    tokens: ImageTokens
    image_token_id: int
    vocab_size: int


class Shards:
    """A shard folder, opened. `lengths` are the counts the planner reads; `sample(i)` reads one row."""

    def __init__(self, path: str | Path) -> None:
        self.folder = find(Path(path))
        self.manifest = manifest.read(self.folder)
        _check_sizes(self.folder, self.manifest)
        self.facts = facts(self.manifest)
        index = pq.read_table(self.folder / "index.parquet", schema=shard.INDEX)
        self._shard, self._row = (index[name].to_numpy() for name in ("shard", "row"))
        self.num_tokens, self.num_tiles = (index[name].to_numpy() for name in ("num_tokens", "num_tiles"))

    def __len__(self) -> int:
        return len(self._row)

    @property
    def tokenizer_folder(self) -> Path:
        return self.folder / "tokenizer"

    def sample(self, index: int) -> Sample:
        batches, row = self._batches[self._shard[index]], int(self._row[index])
        at = int(np.searchsorted(batches.ends, row, side="right"))
        first = batches.ends[at - 1] if at else 0
        return _sample(batches.reader.get_batch(at).slice(row - int(first), 1).to_pylist()[0])

    @cached_property
    def _batches(self) -> list[_Batches]:
        names = sorted(entry.name for entry in self.manifest.files if entry.name.endswith(".arrow"))
        return [_Batches(self.folder / name) for name in names]


class _Batches:
    """One memory-mapped shard: its reader, and after how many rows each record batch ends."""

    def __init__(self, path: Path) -> None:
        self.reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if not self.reader.schema.equals(shard.SHARD):
            raise ManifestError(f"{path}: its columns are not SHARD's; write the shards again with this version")
        rows = [self.reader.get_batch(i).num_rows for i in range(self.reader.num_record_batches)]
        self.ends = np.cumsum(rows)


def find(path: Path) -> Path:
    """The shard folder at `path`: the folder itself, or the only pretokenised one of a pipeline's output folder."""
    if (path / manifest.MANIFEST).is_file():
        return path
    found = sorted(folder.parent for folder in path.glob(f"*{STAGE}*/{manifest.MANIFEST}"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(folder.name for folder in found)
        raise strict.RecipeError(f"data.shards: {path} holds {len(found)} shard folders ({names}); name one of them")
    raise strict.RecipeError(f"data.shards: {path} holds no finished shards; run `python -m pipeline run` first")


def facts(of: Manifest) -> Facts:
    """Tile scheme, image token and vocabulary from a manifest. Raises ManifestError when it is no shard folder's."""
    try:
        scheme = recorded(of.facts["tiles"])
        tokens = strict.build(ImageTokens, of.facts["tokens"], "facts.tokens")
        return Facts(scheme, tokens, int(of.facts["image_token_id"]), int(of.facts["vocab_size"]))
    except KeyError as error:
        raise ManifestError(
            f"the {of.stage} manifest has no fact {error}; wanted the folder of a {STAGE} step"
        ) from None


def _check_sizes(folder: Path, of: Manifest) -> None:
    for entry in of.files:
        path = folder / entry.name
        size = path.stat().st_size if path.is_file() else 0
        if size != entry.size:
            raise ManifestError(f"{path}: {size:,} bytes, the manifest promises {entry.size:,}; write the shards again")


def _sample(row: dict[str, Any]) -> Sample:
    spans = tuple(
        ImageSpan(Grid(tile["rows"], tile["cols"], tile["thumbnail"]), tile["start"], tile["num_tokens"])
        for tile in row["tiles"]
    )
    return Sample(
        row["sample_id"],
        np.asarray(row["input_ids"], np.int64),
        np.asarray(row["target_spans"], np.int64).reshape(-1, 2),
        tuple(image["bytes"] for image in row["images"]),
        spans,
    )
