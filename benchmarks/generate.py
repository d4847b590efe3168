"""Answers a second and the time to the first token, beside transformers' `generate` in padded batches.

    python -m benchmarks.generate [--requests 64] [--slots 16]

One LLaVA with random weights, made here and read by both from the same folder: float32 on one thread of the CPU, a
decoder of 5 M parameters, 64 image tokens. Every request has an image and a question of 20 to 120 tokens, and an answer
of 8 to 512 tokens, log-uniform; no token ends it sooner. All requests are there at the start.

  padded   transformers: batches of 16 in their order, padded on the left, until the longest of the batch has its tokens
  slots    ours: the engine of `train generate` with as many slots
  bf16     ours, the weights, the keys and the values in bfloat16; how much of its ids is what float32 has is told

Both are given ids and tiles that are ready. The first token of a padded batch counts when its first step is done, not
when `generate` returns. The ids of all answers are compared. Beside seconds those that the process computed are told,
for others may work on the machine. Goal: at least 2 times the tokens a second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, LogitsProcessor, LogitsProcessorList

from schemas import strict
from schemas.fingerprints import Fingerprints
from stages.chat import ImageTokens
from stages.chat_rules import DEFAULTS
from stages.tiles.llava15 import Llava15Square
from stages.tiles.scheme import Grid
from train.config import ModelConfig
from train.data.shards import Facts
from train.inference.conversation import Sampling
from train.inference.engine import Engine, Request
from train.inference.opened import placed
from train.inference.prompt import Prompt
from train.models import build, published, tower
from train.models.vision_language import VisionLanguage

WORDS, IMAGE = 4000, 4000
MODEL = {
    "family": "llava",
    "vision": {"hidden_size": 256, "num_layers": 2, "num_heads": 4, "intermediate_size": 1024},
    "language": {
        **{"hidden_size": 256, "num_layers": 6, "num_heads": 4, "num_kv_heads": 2, "intermediate_size": 704},
        "head_dim": 64,
    },
    "init_seed": 0,
}


class Measured(NamedTuple):
    """Answers, seconds in all, those of them that it computed, and seconds until each one's first token."""

    answers: list[list[int]]
    seconds: float
    computed: float
    first: list[float]


class Waiting:
    """All requests, in their order."""

    def __init__(self, requests: list[Request]) -> None:
        self._left = requests[::-1]

    def first(self, wait: bool) -> Request | None:
        return self._left[-1] if self._left else None

    def take(self) -> None:
        self._left.pop()


class Clock(LogitsProcessor):
    """Says when the first step of a batch is done."""

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.first = self.first or time.perf_counter()
        return scores


def requests(count: int, of: Facts) -> list[Request]:
    random, none = np.random.default_rng(7), Sampling()
    made = []
    for number in range(count):
        words = random.integers(0, WORDS, random.integers(20, 121))
        ids = np.concatenate([words[:8], np.full(of.scheme.runs(Grid(1, 1, False), 1, 1)[1][1], IMAGE), words[8:]])
        tiles = random.integers(0, 256, (1, of.scheme.side, of.scheme.side, 3), np.uint8)
        most = int(np.exp(random.uniform(np.log(8), np.log(512))))
        made.append(Request(number, Prompt(ids, tiles, (Grid(1, 1, False),)), none, most, lambda _: False))
    return made


def slots(model: VisionLanguage, of: Facts, asked: list[Request], count: int) -> Measured:
    engine, first = Engine(model, of, count), [0.0] * len(asked)
    start, computed = time.perf_counter(), time.process_time()
    for told in engine.run(Waiting(asked)):
        if len(told.request.tokens) == 1:
            first[told.request.number] = time.perf_counter() - start
    seconds = time.perf_counter() - start, time.process_time() - computed
    return Measured([request.tokens for request in asked], *seconds, first)


def padded(model: Any, asked: list[Request], count: int) -> Measured:
    answers, first = [], []
    start, computed = time.perf_counter(), time.process_time()
    for batch in (asked[at : at + count] for at in range(0, len(asked), count)):
        clock, most = Clock(), max(request.most for request in batch)
        longest = max(len(request.prompt.ids) for request in batch)
        ids, mask = np.zeros((len(batch), longest), np.int64), np.zeros((len(batch), longest), np.int64)
        for row, request in enumerate(batch):
            ids[row, longest - len(request.prompt.ids) :] = request.prompt.ids
            mask[row, longest - len(request.prompt.ids) :] = 1
        tiles = torch.from_numpy(np.concatenate([request.prompt.tiles for request in batch]))
        found = model.generate(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(mask),
            pixel_values=tower.clip_pixels(tiles, torch.float32),
            max_new_tokens=most,
            do_sample=False,
            logits_processor=LogitsProcessorList([clock]),
        )[:, longest:].tolist()
        answers += [row[: request.most] for row, request in zip(found, batch, strict=True)]
        first += [(clock.first or 0.0) - start] * len(batch)
    return Measured(answers, time.perf_counter() - start, time.process_time() - computed, first)


def both(folder: Path) -> tuple[VisionLanguage, Any, Facts]:
    """The same model twice."""
    config = strict.build(ModelConfig, MODEL, "model")
    tokens = ImageTokens("<image>", ids={"<image>": IMAGE})
    of = Facts(Llava15Square(tile=112, patch=14), tokens, DEFAULTS, IMAGE, WORDS + 1, Fingerprints("", ""))
    ours = build.build(config, of).eval()
    torch.manual_seed(0)
    with torch.no_grad():  # or every answer would be one token again and again
        for parameter in ours.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    published.save(folder, ours, config, of)
    theirs = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    theirs.generation_config.eos_token_id = None
    theirs.generation_config.pad_token_id = 0
    return ours, theirs, of


def alike(ours: list[list[int]], theirs: list[list[int]]) -> str:
    """How much is equal. After its first other token an answer goes its own way."""
    pairs = list(zip(ours, theirs, strict=True))
    tokens = [one == other for pair in pairs for one, other in zip(*pair, strict=True)]
    until = [next((n for n, (x, y) in enumerate(zip(*pair, strict=True)) if x != y), len(pair[0])) for pair in pairs]
    whole = np.mean([one == other for one, other in pairs])
    shares = f"{whole:.0%} of the answers, {np.mean(tokens):.0%} of the tokens"
    return f"{shares}, {sum(until) / len(tokens):.0%} before an answer's first other token"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--slots", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, of = both(Path(folder) / "model")
    slots(ours, of, requests(2, of), 2)
    padded(theirs, requests(2, of)[:1], 1)
    a = slots(ours, of, requests(options.requests, of), options.slots)
    b = padded(theirs, requests(options.requests, of), options.slots)
    placed(ours, "cpu", torch.bfloat16)
    half = slots(ours, of, requests(options.requests, of), options.slots)
    tokens = sum(map(len, a.answers))
    same = sum(one == other for one, other in zip(a.answers, b.answers, strict=True))
    kinds = len({token for answer in a.answers for token in answer})
    print(f"{options.requests} requests, {tokens:,} tokens of {kinds:,} kinds; the same ids in {same} answers")
    print("| | seconds | computed | tokens/s | first token, median | mean | 90 % |")
    for name, found in (("padded", b), ("slots", a), ("bf16", half)):
        median, most = np.quantile(found.first, [0.5, 0.9])
        firsts = f"{median:.1f} s | {np.mean(found.first):.1f} s | {most:.1f} s"
        print(f"| {name} | {found.seconds:.1f} | {found.computed:.1f} | {tokens / found.seconds:.0f} | {firsts} |")
    print(f"times as fast: {b.seconds / a.seconds:.2f}, computed {b.computed / a.computed:.2f}")
    print(f"bf16 beside float32: {alike(half.answers, a.answers)}")


if __name__ == "__main__":
    main()
