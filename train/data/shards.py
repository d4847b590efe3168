"""Shards -> samples by global index: memory-mapped, no order, no randomness.

Reads a finished shard folder: `manifest.json`, `index.parquet`, `shard-NNNNN.arrow`, `map-NNNNN.json`. Global index i
is row i of the index. Opening compares every file's size with the manifest (cut and mixed-up folders are refused at
once) and hashes what it reads, the index and the tokenizer; what the shards hold is proven piece by piece before its
first use (shard_file.py). Tile scheme, special tokens and vocabulary come from the manifest's facts and from nowhere
else, so the model can't be built for other tokens than the shards hold.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas import manifest, strict
from schemas.fingerprints import Fingerprints, of_tokenizer
from schemas.manifest import FileEntry, Manifest, ManifestError
from stages.chat import ImageTokens
from stages.chat_rules import ChatRules
from stages.images.rules import Data
from stages.tiles.scheme import Grid
from stages.tiles.table import TileScheme, recorded
from train.data import index
from train.data.index import Index
from train.data.shard_file import Row, ShardFile

STAGE = "pretokenise"
_INDEX, _TOKENIZER = "index.parquet", "tokenizer/"
# Numbers have five digits or more: names are never put in order as text
_SHARD, _MAP = re.compile(r"shard-(\d{5,})\.arrow"), re.compile(r"map-(\d{5,})\.json")
_OPEN = 256  # shards mapped at a time


@dataclass(frozen=True)
class ImageSpan:
    """The grid and the upright size of one image, and the range [start, start + num_tokens) of input_ids it owns."""

    grid: Grid
    width: int
    height: int
    start: int
    num_tokens: int


@dataclass(frozen=True)
class Sample:
    """One training sample as the shard holds it; `images` are the original encoded bytes, where they lie.

    `label_changes`: (position, id) of the targets that are labelled as another token than they are.
    """

    sample_id: str
    input_ids: np.ndarray
    target_spans: np.ndarray
    label_changes: np.ndarray
    images: tuple[Data, ...]
    image_spans: tuple[ImageSpan, ...]
    source: str = ""
    language: str | None = None


@dataclass(frozen=True)
class Facts:
    """What a model must know of the shards it learns from."""

    scheme: TileScheme
    tokens: ImageTokens
    chat: ChatRules
    image_token_id: int
    vocab_size: int
    fingerprints: Fingerprints

    def __post_init__(self) -> None:
        if not 0 <= self.image_token_id < self.vocab_size:
            raise ValueError(f"the image token {self.image_token_id} is none of {self.vocab_size} tokens")
        if self.tokens.ids.get(self.tokens.image) != self.image_token_id:
            raise ValueError(f"tokens.ids are {self.tokens.ids}, the image token is {self.image_token_id}")


class Shards:
    """A shard folder, opened. `lengths` are the counts the planner reads; `sample(i)` reads row i of the index, which
    is without the samples to `leave_out`."""

    def __init__(self, path: str | Path, leave_out: Collection[str] = ()) -> None:
        self.folder = find(Path(path))
        self.ids_left_out: set[str] = set()
        self.manifest = manifest.read(self.folder)
        self.facts = facts(self.manifest)
        _check_sizes(self.folder, self.manifest)
        self._files, self._maps = _numbered(self.manifest, _SHARD), _numbered(self.manifest, _MAP)
        self._check_metadata()
        self._whole = index.read(self.folder / _INDEX, _rows(self.manifest), self.facts.fingerprints)
        self._index = self._leave_out(leave_out) if leave_out else self._whole
        self.num_tokens, self.num_target_tokens, self.num_tiles, self.source, self.subset = self._index[2:]
        self._checked: defaultdict[int, set[int]] = defaultdict(set)
        self._opened = functools.lru_cache(_OPEN)(self._open)

    def __len__(self) -> int:
        return len(self.num_tokens)

    @property
    def identity(self) -> str:
        """What they are, wherever they lie."""
        return self.manifest.identity

    @property
    def tokenizer(self) -> dict[str, Path]:
        """The files of the tokenizer by name: those that the manifest speaks of, and nothing else that lies there."""
        names = [entry.name for entry in self.manifest.files if entry.name.startswith(_TOKENIZER)]
        return {name.removeprefix(_TOKENIZER): self.folder / name for name in names}

    def sample(self, number: int) -> Sample:
        """One sample, proven to be what was written. Raises ManifestError."""
        shard, row = int(self._index.shard[number]), int(self._index.row[number])
        found = _sample(self._opened(shard).row(row))
        holds = len(found.input_ids), sum(span.grid.num_tiles for span in found.image_spans)
        told = int(self.num_tokens[number]), int(self.num_tiles[number])
        if holds != told:
            raise ManifestError(
                f"{self._opened(shard).path} row {row} ({found.sample_id}): {holds[0]} tokens and {holds[1]} tiles, "
                f"the index says {told[0]} and {told[1]}; run pretokenise again"
            )
        return found

    @property
    def num_left_out(self) -> int:
        return len(self._whole.row) - len(self._index.row)

    def _leave_out(self, ids: Collection[str]) -> Index:
        found = index.find(self.folder / _INDEX, ids)
        self.ids_left_out = set(found)
        keep = np.ones(len(self._whole.row), bool)
        keep[[row for rows in found.values() for row in rows]] = False
        return self._whole.at(np.flatnonzero(keep))

    def _open(self, number: int) -> ShardFile:
        if number not in self._files or number not in self._maps:
            wanted = f"shard-{number:05d}.arrow and map-{number:05d}.json"
            raise ManifestError(f"{self.folder}: its manifest has no {wanted}; run pretokenise of this version again")
        opened = ShardFile(self.folder, self._files[number], self._maps[number], self._checked[number])
        told = self._whole.rows_of(number)
        if opened.num_rows != told:
            raise ManifestError(
                f"{opened.path}: {opened.num_rows:,} rows, the index has {told:,} of it; run pretokenise again"
            )
        return opened

    def _check_metadata(self) -> None:
        """The index and the tokenizer are read at once, so they are proven at once."""
        found = [entry for entry in self.manifest.files if entry.name == _INDEX]
        there = {
            _INDEX: found,
            "tokenizer": self.tokenizer,
            "map of every shard": self._files.keys() <= self._maps.keys(),
        }
        for wanted in (what for what, is_there in there.items() if not is_there):
            raise ManifestError(f"{self.folder}: its manifest has no {wanted}; run pretokenise of this version again")
        for entry in self.manifest.files:
            if entry.name == _INDEX or entry.name.startswith(_TOKENIZER):
                manifest.check_file(self.folder, entry)
        self._check_tokenizer()

    def _check_tokenizer(self) -> None:
        names = {entry.name: entry.sha256 for entry in self.manifest.files if entry.name.startswith(_TOKENIZER)}
        found = of_tokenizer({name.removeprefix(_TOKENIZER): sha256 for name, sha256 in names.items()})
        if found != (wanted := self.facts.fingerprints.tokenizer):
            raise ManifestError(
                f"{self.folder / _TOKENIZER}: is another tokenizer, {found[:8]}; the ids are of {wanted[:8]}; "
                "run pretokenise again"
            )


def find(path: Path) -> Path:
    """The shard folder at `path`: the folder itself, or the only pretokenised one of a pipeline's output folder."""
    if not path.is_dir():
        raise strict.RecipeError(f"data.shards: {path} is no folder; run `python -m pipeline run` first")
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
    if of.stage != STAGE:
        raise ManifestError(f"the manifest is of {of.stage}; wanted the folder of a {STAGE} step")
    try:
        found = {name: of.facts[name] for name in ("tokens", "chat", "image_token_id", "vocab_size", "fingerprints")}
        return strict.build(Facts, {"scheme": asdict(recorded(of.facts["tiles"])), **found}, "facts")
    except KeyError as error:
        raise ManifestError(f"the {of.stage} manifest has no fact {error}; run pretokenise again") from None
    except strict.RecipeError as error:
        raise ManifestError(f"the {of.stage} manifest says of its {error}; run pretokenise again") from None


def _rows(of: Manifest) -> int:
    """How many rows the index has: at least one for each kept sample, more for one that was cut."""
    rows = of.facts.get("rows")
    if not isinstance(rows, int) or rows < of.counts.kept:
        raise ManifestError(f"the {of.stage} manifest says of its rows {rows!r}; run pretokenise again")
    return rows


def _numbered(of: Manifest, names: re.Pattern[str]) -> dict[int, FileEntry]:
    """The numbered files of a kind, by number."""
    return {int(found[1]): entry for entry in of.files if (found := names.fullmatch(entry.name))}


def _check_sizes(folder: Path, of: Manifest) -> None:
    for entry in of.files:
        path = f"{folder}/{entry.name}"  # of tens of thousands, so no Path for each
        try:
            found = os.stat(path)  # noqa: PTH116
            size = f"{found.st_size:,} bytes" if stat.S_ISREG(found.st_mode) else "no file"
        except OSError:
            size = "missing"
        if size != f"{entry.size:,} bytes":
            raise ManifestError(f"{path}: {size}, the manifest promises {entry.size:,} bytes; write the shards again")


def _sample(row: Row) -> Sample:
    spans = tuple(
        ImageSpan(
            Grid(tile["rows"], tile["cols"], tile["thumbnail"]),
            *(tile[name] for name in ("width", "height", "start", "num_tokens")),
        )
        for tile in row["tiles"]
    )
    changes = row.values("label_changes")
    return Sample(
        row["sample_id"],
        _integers(row.values("input_ids")),
        _integers(row.values("target_spans").flatten()).reshape(-1, 2),
        np.stack([_integers(changes.field(name)) for name in ("position", "id")], axis=1),
        row.images,
        spans,
        row["source"],
        row["language"],
    )


def _integers(values: pa.Array) -> np.ndarray:
    return np.asarray(values.to_numpy(), np.int64)
