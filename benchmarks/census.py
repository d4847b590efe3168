"""Token counts of the same samples: our census beside `datasets.map` with the transformers processor of the same model.

    python -m benchmarks.census [--rows 300] [--repeat 20] [--processes 1] [--rounds 3]

`rows` JPEGs of about 0.6 megapixels, smooth as photographs, with a question and an answer of about 90 words; a
tokenizer trained on the texts, ChatML. They are ingested once, and that is not in the time: it is paid once for all
recipes. Then, in turns, with as many processes each:

  ours   the census of the recipe on what is ingested, `--repeat` times over, start of its processes included
  peer   `datasets.map` of the processor (LLaVA-NeXT's, made from its config, its image processor that needs Pillow
         alone): the picture decoded and cut into tiles, the text encoded with the image tokens in it

`repeat`: the corpus is small for the peer's sake, and one count of it would be over in a moment. The numbers must be
the same: image tokens of all, and the lengths of all rows. Prints samples/s of every round by wall and by CPU time, and
the ratios of the medians.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many cores as processes, for both

import datasets
from PIL import Image
from transformers import AutoTokenizer
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from benchmarks.ingest import draw
from pipeline.commands.census import ingested
from pipeline.commands.census.found import Found
from pipeline.graph.build import build
from pipeline.graph.content import Content
from pipeline.graph.context import Context
from pipeline.quickstart import tokenizer
from pipeline.recipe.types import Recipe
from pipeline.run import runner
from pipeline.run.runner import Serial
from pipeline.steps.table import STAGES
from schemas import strict

_WORDS = "the a chart table page picture shows under over red blue seven twelve about between city river number of and"
_GOAL = 20
Sums = tuple[Counter[int], int]
"""How many rows have so many tokens, and the image tokens of all."""


def make(top: Path, rows: int) -> list[dict[str, str]]:
    """Pictures, the records that name them, and a tokenizer."""
    (top / "raw").mkdir(parents=True)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(draw, [(top / "raw" / f"{n}.jpg", n, "smooth") for n in range(rows)], chunksize=50)
    rng = random.Random(1)
    said = [" ".join(rng.choices(_WORDS.split(), k=rng.randint(40, 140))) + "." for _ in range(rows)]
    records = [{"image": f"{n}.jpg", "caption": text} for n, text in enumerate(said)]
    (top / "raw" / "rows.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    tokenizer.learn([*said, "What is in this picture, and where?"], top / "tokenizer")
    return records


def ingest(top: Path) -> ingested.Opened:
    """The recipe, all of whose samples are ingested."""
    source = {"format": "caption", "images": ".", "files": ["*.jsonl"], "prompt": "What is in this picture, and where?"}
    shards = {"tiles": {"scheme": "llava-anyres"}, "tokens": {"image": "<image>"}}
    data = {"sources": {"rows": source}, "quality": "off", "pretokenise": shards}
    places = {"rows": str(top / "raw"), "tokenizer": str(top / "tokenizer")}
    recipe = strict.build(Recipe, {"data": data, "run": {"out": str(top / "out"), "locations": places}})
    context = Context(recipe, Content(recipe))
    steps = build(context, STAGES)
    runner.run([step for step in steps if step.stage.makes in ("files", "samples")], context, Serial())
    return context, steps


def ours(opened: ingested.Opened, processes: int, repeat: int) -> Sums:
    """The census so many times over, each reading what was ingested anew."""
    for _ in range(repeat):
        found = Found("ours", "ours", {}, "", "")
        ingested.census([opened], [found], processes)
    return found.tally.lengths, found.tally.kept["num_image_tokens"]


def peer(top: Path, records: list[dict[str, str]], processes: int) -> Sums:
    """As a person would do it."""
    words = AutoTokenizer.from_pretrained(top / "tokenizer")
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    pictures = LlavaNextImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    processor = LlavaNextProcessor(
        pictures, words, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    image_id = words.convert_tokens_to_ids("<image>")

    def count(row: dict[str, str]) -> dict[str, int]:
        said = [
            {"role": "user", "content": "<image>What is in this picture, and where?"},
            {"role": "assistant", "content": row["caption"]},
        ]
        text = words.apply_chat_template(said, tokenize=False)
        image = Image.open(top / "raw" / row["image"]).convert("RGB")
        ids = processor(images=[image], text=[text])["input_ids"][0]
        return {"num_tokens": len(ids), "num_image_tokens": list(ids).count(image_id)}

    counted: Any = datasets.Dataset.from_list(records).map(
        count, num_proc=processes if processes > 1 else None, load_from_cache_file=False
    )
    return Counter(counted["num_tokens"]), sum(counted["num_image_tokens"])


class Cost(NamedTuple):
    """Seconds; `cpu` of all processes."""

    wall: float
    cpu: float


def timed(what: Callable[[], Sums]) -> tuple[Cost, Sums]:
    wall, cpu = time.monotonic(), sum(os.times()[:4])
    found = what()
    return Cost(time.monotonic() - wall, sum(os.times()[:4]) - cpu), found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    datasets.disable_progress_bars()
    top = Path(tempfile.mkdtemp(prefix="census-"))
    try:
        records = make(top, given.rows)
        opened = ingest(top)
        return _compare(given, top, records, opened)
    finally:
        shutil.rmtree(top)


def _compare(given: argparse.Namespace, top: Path, records: list[dict[str, str]], opened: ingested.Opened) -> int:
    mine: list[Cost] = []
    theirs: list[Cost] = []
    for number in range(given.rounds):
        cost, found = timed(lambda: ours(opened, given.processes, given.repeat))
        mine.append(Cost(*(part / given.repeat for part in cost)))
        cost, wanted = timed(lambda: peer(top, records, given.processes))
        theirs.append(cost)
        if found != wanted:
            print(f"other numbers: {found} and {wanted}")
            return 1
        speeds = ", ".join(
            f"{name} {given.rows / one[-1].wall:,.1f} samples/s ({given.rows / one[-1].cpu:,.1f} by CPU time)"
            for name, one in (("ours", mine), ("peer", theirs))
        )
        print(f"round {number + 1}: {speeds}")
    tokens = sum(length * rows for length, rows in found[0].items())
    print(f"the same numbers: {given.rows:,} rows, {tokens:,} tokens, {found[1]:,} of them of images")
    ratios = [statistics.median(c[n] for c in theirs) / statistics.median(c[n] for c in mine) for n in (0, 1)]
    print(f"ours / peer in samples/s: {ratios[0]:,.1f} by wall, {ratios[1]:,.1f} by CPU time (goal {_GOAL})")
    return 0 if ratios[0] >= _GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
