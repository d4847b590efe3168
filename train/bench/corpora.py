"""Corpora by the lengths of their samples: how much text, how many pictures of which size, what is learnt.

A sample is one picture or none, and text of log-normal length around a mean. What is known of each corpus is its mean
tokens; how they spread, the sizes of pictures and the share of targets are assumed, and chosen so that tiles and tokens
come to what the published runs say.

    vqwen3-stage1  LLaVA-Pretrain: one picture of 576 tokens, 19 tokens of caption, all of them targets: 595
    vqwen3-stage2  mix665k: 94 % with a picture, 246 tokens of text, 120 of them targets: 787, E[T^2] = 1.15 T^2
    llm-jp-4-vl    1,796 tokens (2.0 M a step of 1,113 samples), five tiles of 256, 400 targets
    jina-vlm       2 x 3 tiles and the whole image, 1,054 tokens, and 300 of text, 120 of them targets
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import numpy as np

from schemas import fingerprints
from stages.chat import ImageTokens
from stages.chat_rules import DEFAULTS
from stages.tiles.jina import Jina
from stages.tiles.llava15 import Llava15Square
from stages.tiles.llmjp4vl import LlmJp4VL
from stages.tiles.scheme import Kind, Size
from stages.tiles.table import TileScheme
from train.data.index import Index, Labels
from train.data.shards import Facts

TOKENIZER = b"{}"  # what stands for its file: nobody reads made-up ids
_KINDS: tuple[Kind, ...] = ("patch", "start", "end", "row")


@dataclass(frozen=True)
class Corpus:
    """`text` and `targets` are means, `spread` is the standard deviation of text over its mean; `sizes` are of pictures
    with their shares, which come to less than 1 where some samples have none."""

    scheme: TileScheme
    sizes: dict[Size, float]
    text: int
    spread: float
    targets: int
    longest: int
    vocab_size: int
    kinds: int = 1  # of image tokens that it has, in the order of _KINDS

    def facts(self, vocab_size: int) -> Facts:
        """Of shards of it; its image tokens are the last ids."""
        ids = {f"<{kind}>": vocab_size - 1 - number for number, kind in enumerate(_KINDS[: self.kinds])}
        named = {kind if kind != "patch" else "image": f"<{kind}>" for kind in _KINDS[: self.kinds]}
        tokens = ImageTokens(**named, ids=ids)
        prints = fingerprints.taken({"tokenizer.json": hashlib.sha256(TOKENIZER).hexdigest()}, asdict(self.scheme))
        return Facts(self.scheme, tokens, DEFAULTS, vocab_size - 1, vocab_size, prints)


CORPORA = {
    "vqwen3-stage1": Corpus(Llava15Square(), {(500, 375): 1.0}, 19, 0.5, 19, 2048, 151_936),
    "vqwen3-stage2": Corpus(Llava15Square(), {(640, 480): 0.939}, 246, 1.1, 120, 2048, 151_936),
    "llm-jp-4-vl": Corpus(
        LlmJp4VL(),
        {(500, 500): 0.3, (1000, 500): 0.2, (1000, 1000): 0.15, (1200, 800): 0.2, (1600, 1200): 0.15},
        *(514, 1.0, 400, 4096, 196_608, 3),
    ),
    "jina-vlm": Corpus(Jina(), {(900, 640): 1.0}, 300, 0.8, 120, 4096, 152_064, 4),
}


@dataclass(frozen=True)
class Drawn:
    """Samples of a corpus; `picture` is the number of a size, -1 for none. [samples]"""

    picture: np.ndarray
    text: np.ndarray
    targets: np.ndarray
    image: np.ndarray
    tiles: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        found: np.ndarray = self.text + self.image
        return found

    def index(self) -> Index:
        """What a planner reads of them: one shard."""
        rows = len(self.text)
        labels = Labels(("made-up",), np.zeros(rows, np.int32))
        places = np.zeros(rows, np.int32), np.arange(rows, dtype=np.int32)
        tokens, targets, tiles = (column.astype(np.int32) for column in (self.tokens, self.targets, self.tiles))
        return Index(*places, tokens, targets, tiles, labels, labels)


def draw(corpus: Corpus, count: int, seed: int = 0) -> Drawn:
    """So many samples; the same for the same seed."""
    random = np.random.default_rng(seed)
    shares = [*corpus.sizes.values(), max(0.0, 1 - sum(corpus.sizes.values()))]
    picture = random.choice([*range(len(corpus.sizes)), -1], count, p=np.array(shares) / sum(shares))
    grids = [corpus.scheme.grid(*size) for size in corpus.sizes]
    runs = [corpus.scheme.runs(grid, *size) for grid, size in zip(grids, corpus.sizes, strict=True)]
    named = _KINDS[: corpus.kinds]
    lengths = [sum(number for kind, number in of if kind in named) for of in runs]
    image = np.array([*lengths, 0])[picture]
    variance = np.log1p(corpus.spread**2)
    text = random.lognormal(np.log(corpus.text) - variance / 2, variance**0.5, count)
    text = np.clip(text.round().astype(np.int64), 2, corpus.longest - image)
    targets = np.clip((text * (corpus.targets / corpus.text)).round().astype(np.int64), 1, text - (image == 0))
    return Drawn(picture, text, targets, image, np.array([*(grid.num_tiles for grid in grids), 0])[picture])


def image_ids(corpus: Corpus, size: Size, facts: Facts) -> list[int]:
    """The ids of a picture's tokens."""
    ids = {kind: facts.tokens.ids[f"<{kind}>"] for kind in _KINDS[: corpus.kinds]}
    grid = corpus.scheme.grid(*size)
    return [ids[kind] for kind, number in corpus.scheme.runs(grid, *size) if kind in ids for _ in range(number)]
