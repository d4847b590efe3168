"""What it costs to make tiles of a shard row's images, beside their decoding and resizing, in CPU time of one core.

    python -m benchmarks.loader [--rounds 15]

JPEGs of three sizes (made_up.py), a pack of four; measured in one process, in turns; the fastest round counts:

  pixels   decode, and resize by the scheme's resampler onto its grid and its thumbnail: no array is made of it
  bare     the same as arrays, and their crops copied into one: the least that gives tiles
  ours     the trainer's path from the bytes of a row (`cut_tiles`): every check of the image, orientation, tiles
  collate  ours, and what else makes a pack: checks of the row, ids, positions, labels
  sha256   the proof of the bytes, which reading a row includes

Goal: ours <= 1.15 x bare; `strict` is ours / pixels.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.made_up import jpeg
from stages.chat import ImageTokens
from stages.chat_rules import ChatRules
from stages.tiles.internvl import InternVL
from stages.tiles.jina import Jina
from stages.tiles.llava15 import Llava15Pad, Llava15Square
from stages.tiles.llava_anyres import LlavaAnyres
from stages.tiles.llmjp4vl import LlmJp4VL
from stages.tiles.qwen_native import QwenNative
from stages.tiles.scheme import Grid
from train.data.collate import collate, cut_tiles
from train.data.shards import Facts, ImageSpan, Sample

SIZES = ((1024, 768), (640, 480), (2000, 1500))
PACK = 4


Resized = list[tuple[Any, list[tuple[int, int]]]]
"""Pictures, and the places of the tiles in each."""


def bicubic(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BICUBIC)


def places(grid: Grid, step: int) -> list[tuple[int, int]]:
    return [(row * step, col * step) for row in range(grid.rows) for col in range(grid.cols)]


def stretched(image: Image.Image, grid: Grid, side: int) -> Resized:
    tiles = (bicubic(image, grid.cols * side, grid.rows * side), places(grid, side))
    return [tiles, (bicubic(image, side, side), [(0, 0)])] if grid.thumbnail else [tiles]


def square(image: Image.Image, grid: Grid, side: int) -> Resized:
    scale = side / min(image.size)
    found = bicubic(image, max(side, int(image.width * scale)), max(side, int(image.height * scale)))
    return [(found, [((found.height - side) // 2, (found.width - side) // 2)])]


def pad(image: Image.Image, grid: Grid, side: int) -> Resized:
    long = max(image.size)
    canvas = Image.new("RGB", (long, long), (122, 116, 104))
    canvas.paste(image, ((long - image.width) // 2, (long - image.height) // 2))
    return [(bicubic(canvas, side, side), [(0, 0)])]


def anyres(image: Image.Image, grid: Grid, side: int) -> Resized:
    width, height = grid.cols * side, grid.rows * side
    scale = min(width / image.width, height / image.height)
    fitted = bicubic(image, round(image.width * scale), round(image.height * scale))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(fitted, ((width - fitted.width) // 2, (height - fitted.height) // 2))
    return [(bicubic(image, side, side), [(0, 0)]), (canvas, places(grid, side))]


def bilinear(image: Image.Image, grid: Grid, side: int) -> Resized:
    pixels: Any = torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None]
    made = []
    for size in ((side, side), (grid.rows * 266 + 112, grid.cols * 266 + 112)):
        found = torch.nn.functional.interpolate(pixels, size, mode="bilinear", align_corners=False)
        made.append(found[0].round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())
    return [(made[0], [(0, 0)]), (made[1], places(grid, 266))]


SCHEMES: tuple[tuple[Any, Callable[[Image.Image, Grid, int], Resized]], ...] = (
    (InternVL(), stretched),
    (LlmJp4VL(), stretched),
    (Llava15Square(), square),
    (Llava15Pad(), pad),
    (LlavaAnyres(), anyres),
    (Jina(), bilinear),
    (QwenNative(), stretched),
)


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def facts_of(scheme: Any) -> Facts:
    tokens = ImageTokens("<image>", "<img>", "</img>", "<row>", {"<image>": 1, "<img>": 2, "</img>": 3, "<row>": 4})
    return Facts(scheme, tokens, ChatRules(), 1, 1000)


def sample(scheme: Any, data: bytes, width: int, height: int) -> Sample:
    """A row of one image and 300 tokens of text."""
    kinds = {"patch": 1, "start": 2, "end": 3, "row": 4}
    grid = scheme.grid(width, height)
    image = [kinds[kind] for kind, count in scheme.runs(grid, width, height) for _ in range(count)]
    ids = np.array([*image, *range(100, 400)], np.int64)
    span = ImageSpan(grid, width, height, 0, len(image))
    changes = np.empty((0, 2), np.int64)
    return Sample("made-up", ids, np.array([[len(ids) - 200, len(ids)]]), changes, (data,), (span,))


def measured(scheme: Any, plain: Callable[..., Resized], size: tuple[int, int], rounds: int) -> dict[str, float]:
    """Milliseconds of CPU an image."""
    images = [jpeg(seed, *size) for seed in range(PACK)]
    pack, facts = [sample(scheme, data, *size) for data in images], facts_of(scheme)
    grid, side = scheme.grid(*size), scheme.side

    def pixels() -> list[Resized]:
        return [plain(decoded(data), grid, side) for data in images]

    def bare() -> np.ndarray:
        tiles, number = np.empty((PACK * grid.num_tiles, side, side, 3), np.uint8), 0
        for data in images:
            for picture, found in plain(decoded(data), grid, side):
                canvas = np.asarray(picture)
                for top, left in found:
                    tiles[number] = canvas[top : top + side, left : left + side]
                    number += 1
        return tiles

    works: dict[str, Callable[[], object]] = {
        "pixels": pixels,
        "bare": bare,
        "ours": lambda: cut_tiles(pack, scheme),
        "collate": lambda: collate(pack, facts),
        "sha256": lambda: [hashlib.sha256(data).hexdigest() for data in images],
    }
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, work in works.items():
            gc.collect()
            began = time.process_time()
            work()
            best[name] = min(best.get(name, float("inf")), (time.process_time() - began) / PACK * 1e3)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of making tiles beside that of decoding and resizing.")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    heads = ("pixels", "bare", "ours", "collate", "sha256")
    columns = " ".join(f"{head:>8}" for head in heads)
    print(f"{'ms an image':<16} {'size':<11} {'tiles':>5} {columns}  ratio strict  a second")
    for size in SIZES:
        for scheme, plain in SCHEMES:
            found = measured(scheme, plain, size, asked.rounds)
            told = " ".join(f"{found[head]:>8.2f}" for head in heads)
            ratio, strict = found["ours"] / found["bare"], found["ours"] / found["pixels"]
            case = f"{scheme.scheme:<16} {size[0]:>4} x {size[1]:<4} {scheme.grid(*size).num_tiles:>5}"
            print(f"{case} {told} {ratio:>6.2f} {strict:>6.2f} {1e3 / found['ours']:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
