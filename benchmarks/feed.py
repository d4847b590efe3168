"""How many cores feed a GPU that trains at its floor: the loader alone, on made-up shards of each recipe's lengths.

    python -m benchmarks.feed [--samples 96] [--rounds 5]

CPU time of one core, in one process, in turns, the fastest round of each:

  bare    decode each picture with Pillow, resize it by the scheme's resampler, copy the crops into an array
  cut     the trainer's path from the bytes of a row to tiles, its checks and orientation
  loader  all that the loader does for a pack: rows read and proven, cut, ids, positions, labels

Goal: cut <= 1.15 x bare. The floor is that of `python -m train bench --meta`: samples a second at 790 TFLOP/s.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import loader
from train import config
from train.bench import corpora, measure, shards
from train.bench.corpora import CORPORA
from train.data.collate import cut_tiles
from train.data.folders import open_shards
from train.data.loader import _pack
from train.data.shards import Sample

CONFIGS = Path(__file__).parent / "gpu"
PACK = 8  # samples


def floor(name: str) -> float:
    """Samples a second."""
    options = measure.Options(name, True, None, 1, 1, None)
    found = measure.report(config.load(CONFIGS / f"{name}.yaml"), options)
    assert found is not None
    return float(found["floor"]["samples_per_second"])


def bare(samples: list[Sample], scheme: Any, plain: Callable[..., loader.Resized]) -> None:
    side = scheme.side
    grids = [span.grid for sample in samples for span in sample.image_spans]
    tiles, number = np.empty((sum(grid.num_tiles for grid in grids), side, side, 3), np.uint8), 0
    pictures = [data for sample in samples for data in sample.images]
    for data, grid in zip(pictures, grids, strict=True):
        for picture, places in plain(loader.decoded(bytes(data)), grid, side):
            canvas = np.asarray(picture)
            for top, left in places:
                tiles[number] = canvas[top : top + side, left : left + side]
                number += 1


def measured(name: str, count: int, rounds: int) -> dict[str, float]:
    """Milliseconds of CPU a sample."""
    corpus = CORPORA[name]
    plain = next(plain for scheme, plain in loader.SCHEMES if scheme.scheme == corpus.scheme.scheme)
    with tempfile.TemporaryDirectory() as folder:
        shards.write(Path(folder), corpus, corpora.draw(corpus, count), corpus.facts(corpus.vocab_size))
        opened = open_shards(folder)
        packs = [list(range(first, min(first + PACK, count))) for first in range(0, count, PACK)]
        samples = [[opened.sample(number) for number in pack] for pack in packs]
        works: dict[str, Callable[[], object]] = {
            "bare": lambda: [bare(pack, corpus.scheme, plain) for pack in samples],
            "cut": lambda: [cut_tiles(pack, corpus.scheme) for pack in samples],
            "loader": lambda: [_pack(opened, pack) for pack in packs],
        }
        best: dict[str, float] = {}
        for _ in range(rounds):
            for work, do in works.items():
                gc.collect()
                began = time.process_time()
                do()
                best[work] = min(best.get(work, float("inf")), (time.process_time() - began) / count * 1e3)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="Cores that feed each recipe's floor.")
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| recipe | bare, ms a sample | cut | ratio | loader | samples/s a core | floor, samples/s | cores |")
    print("|---|---|---|---|---|---|---|---|")
    for name in CORPORA:
        found, wanted = measured(name, asked.samples, asked.rounds), floor(name)
        told = f"{found['bare']:.2f} | {found['cut']:.2f} | {found['cut'] / found['bare']:.2f} | {found['loader']:.2f}"
        rate = 1e3 / found["loader"]
        print(f"| `{name}` | {told} | {rate:.0f} | {wanted:.1f} | {wanted / rate:.2f} |", flush=True)


if __name__ == "__main__":
    main()
