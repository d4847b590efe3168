"""What pretokenise costs beside the tokenizer alone, in CPU time of one core.

    python -m benchmarks.pretokenise [--rows 64] [--rounds 15]

Conversations of one image of 100 kB and one to ten turns, short and long, English and Japanese (made_up.py), with a
byte-level BPE and a unigram, each measured in one process, in turns, on rows that were not met before:

  theirs   `encode_batch` of the conversations as the chat template prints them, and a copy of the images' bytes
  fast     the same with `encode_batch_fast`, which gives no offsets
  ours     rows of the shard: layout, ids, target spans, grids, tiles, counts; and a copy of the same bytes
  columns  ours, and all columns but the images as an Arrow table

The fastest round is told, and the median of the rounds' ours / theirs, which other work on the machine disturbs least.
Goal: at most 1.3.
"""

from __future__ import annotations

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from benchmarks.made_up import Words, byte_level, rendered, unigram
from schemas.shard import SHARD
from stages.chat import ChatFormat, ImageTokens
from stages.shard_rows import PretokeniseParams, rows_of
from stages.tiles.internvl import InternVL
from stages.tiles.llmjp4vl import LlmJp4VL

TOKENS = ImageTokens("<image>", "<img>", "</img>")
SHAPES = ((1, 40), (1, 250), (3, 120), (3, 400), (10, 120), (10, 400))  # turns, words of a conversation
COLUMNS = pa.schema([field for field in SHARD if field.name not in ("images", "language")])


def samples(words: Words, count: int, turns: int, length: int) -> list[dict[str, Any]]:
    """What pretokenise reads of samples."""
    sizes = ((1024, 768), (640, 480), (800, 1200), (500, 333))
    return [
        {
            "sample_id": f"made/up/rows.json#{number}",
            "source": "made-up",
            "messages": words.talk(turns, length),
            "images": [{"bytes": os.urandom(100_000), "path": f"{number}.jpg"}],
            "image_info": [{"width": width, "height": height, "sha256": f"{number:064x}"}],
        }
        for number, (width, height) in zip(range(count), sizes * count, strict=False)
    ]


def measured(
    chat: ChatFormat, params: PretokeniseParams, rounds: Iterator[list[dict[str, Any]]]
) -> tuple[dict[str, float], float, int]:
    """Microseconds of CPU a row of the fastest round, the median of ours / theirs, and the text tokens of a row. All
    measure the rows of a round, one after the other; each round has rows that no tokenizer has seen."""
    theirs, fast = (type(backend).from_str(backend.to_str()) for backend in [chat.tokenizer.backend_tokenizer] * 2)
    found: list[dict[str, float]] = []
    for rows in rounds:
        texts = [rendered(row["messages"]) for row in rows]
        images = [memoryview(row["images"][0]["bytes"]) for row in rows]
        made: list[dict[str, Any]] = []
        spent = {
            "copy": cpu(lambda images=images: [bytes(image) for image in images]),  # type: ignore[misc]
            "theirs": cpu(lambda texts=texts: theirs.encode_batch(texts, add_special_tokens=False)),  # type: ignore[misc]
            "ours": cpu(lambda rows=rows, made=made: made.extend(shard_rows(rows, chat, params))),  # type: ignore[misc]
            "fast": cpu(lambda texts=texts: fast.encode_batch_fast(texts, add_special_tokens=False)),  # type: ignore[misc]
            "columns": cpu(lambda made=made: pa.Table.from_pylist(made, COLUMNS)),  # type: ignore[misc]
        }
        found.append({name: seconds / len(rows) * 1e6 for name, seconds in spent.items()})
    for one in found:
        one["columns"] += one["ours"]
        for name in ("theirs", "fast", "ours", "columns"):
            one[name] += one["copy"]
    best = {name: min(one[name] for one in found) for name in found[0]}
    ratio = statistics.median(one["ours"] / one["theirs"] for one in found)
    return best, ratio, sum(row["num_text_tokens"] for row in made) // len(made)


def cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU."""
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


def shard_rows(rows: list[dict[str, Any]], chat: ChatFormat, params: PretokeniseParams) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield from rows_of(row, chat, params)[0]


def cases() -> Iterator[tuple[str, ChatFormat, PretokeniseParams]]:
    learnt = Words(1)
    texts = [learnt.text(80) for _ in range(3000)]
    for name, train in (("BPE", byte_level), ("unigram", unigram)):
        chat = ChatFormat(train(texts), TOKENS)
        for scheme in (InternVL(), LlmJp4VL()):
            yield f"{name}, {scheme.scheme}", chat, PretokeniseParams(scheme, TOKENS)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of pretokenise beside the tokenizer's.")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    heads = ("theirs", "fast", "ours", "columns")
    print(
        f"{'microseconds a row':<20} {'turns':>5} {'tokens':>6} " + " ".join(f"{head:>8}" for head in heads) + "  ratio"
    )
    for name, chat, params in cases():
        words = Words(2)
        for turns, length in SHAPES:
            rounds = (samples(words, asked.rows, turns, length) for _ in range(asked.rounds))
            found, ratio, tokens = measured(chat, params, rounds)
            told = " ".join(f"{found[head]:>8.0f}" for head in heads)
            print(f"{name:<20} {turns:>5} {tokens:>6} {told} {ratio:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
