"""What the rules of quality cost a sample, beside what ingest spends on one image: python -m benchmarks.quality [ROWS]

Conversations of 1, 3 and 10 turns about a JPEG of about 100 kB; CPU time of one process, the best of three, with the
rules that are always on, with a dozen limits set, and with all evidence. Ingest makes the samples of the same rows, up
to where they would be written.
"""

from __future__ import annotations

import io
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from stages.filters.quality import QUALITY, QualityParams
from stages.filters.rules.limits import AnswerRules, TextRules, TurnRules
from stages.ingest import IngestParams, ingest
from stages.sources.archives.image_files import ImageFiles
from stages.sources.declaration import Source

WORDS = [
    "the",
    "chart",
    "shows",
    "a",
    "value",
    "of",
    "number",
    "in",
    "year",
    "and",
    "blue",
    "line",
    "rises",
    "2010",
    "34.5",
    "percent",
    "table",
    "row",
    "total",
]
LIMITS = QualityParams(
    turns=TurnRules(min_ratings={"relevance_ratings": 1}, alternating=True, no_copies=True, remove="all"),
    questions=TextRules(max_mojibake=9),
    answers=AnswerRules(
        max_repeated_lines=0.9,
        max_repeated_words=0.9,
        max_url_share=0.9,
        min_compression=0.01,
        max_control_characters=9,
        max_mojibake=9,
        no_refusals=True,
        no_boilerplate=True,
    ),
)


def picture() -> bytes:
    """A soft picture with grain: about 100 kB at 800 x 600."""
    rng = np.random.default_rng(1)
    soft = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((800, 600), Image.Resampling.BICUBIC)
    grain = rng.integers(-20, 21, (600, 800, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(soft, np.int16) + grain, 0, 255).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def text(characters: int, rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=characters // 3))[:characters]


def record(number: int, turns: int, characters: int, image: bytes) -> dict[str, Any]:
    """A row of FineVision's shape."""
    rng = random.Random(number)
    answer = max(20, characters // turns - 60)
    texts = [{"user": text(60, rng), "assistant": text(answer, rng)} for _ in range(turns)]
    return {"images": [{"bytes": image}], "texts": texts, "relevance_ratings": [3] * turns}


def samples(records: list[dict[str, Any]]) -> pa.Table:
    source = Source("texts", ("*",), licence="unknown")
    pieces = ingest(enumerate(records), "made", "a.parquet", source, ImageFiles(None), IngestParams())
    return pa.concat_tables(piece.samples for piece in pieces)


def cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU time, the best of three."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main(rows: int) -> None:
    image = picture()
    print(f"{rows} rows, each with a JPEG of {len(image) / 1000:.0f} kB")
    for turns, characters in ((1, 200), (3, 800), (10, 2000)):
        records = [record(number, turns, characters, image) for number in range(rows)]
        ours = cpu(lambda records=records: samples(records)) / rows
        table = samples(records).drop_columns(["images"])
        print(f"{turns:>2} turns, {characters:>5} characters, ingest  {1000 * ours:.3f} ms")
        for name, params in (("always", QualityParams()), ("limits", LIMITS), ("all", QualityParams(evidence="all"))):
            took = cpu(lambda params=params, table=table: QUALITY.verdicts(table, params, None)) / rows
            print(f"{turns:>2} turns, {characters:>5} characters, {name:<7} {1000 * took:.3f} ms  {took / ours:6.1%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
