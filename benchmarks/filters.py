"""What all filters together cost a sample beside its ingest.

    python -m benchmarks.filters [--rows 1500] [--rounds 3] [--every 4] [--mark 0]

Rows in LLaVA's layout: a JPEG of about 0.6 megapixels with a caption in one of eight languages, and after every fourth
(--every) a copy of it, saved again; and one row in ten a text alone, of 400 to 4,000 characters, every fourth of these
copied with a word changed. A benchmark of so many of the pictures, saved again, and of the texts, that one row in 20 is
in it (with --every 40: one in 200). Every filter is on with its defaults, quality
with a dozen limits, a mixture by samples. All tasks run one after the other in this process, so the CPU seconds of each
step are its own; the medians of the rounds are printed, and filters / ingest (goal: below 0.40).
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks import ingest
from benchmarks.first_rows import CAPTIONS
from pipeline.graph.build import build
from pipeline.graph.content import Content
from pipeline.graph.context import Context
from pipeline.graph.task import Record, Task, do
from pipeline.quickstart import tokenizer
from pipeline.recipe.load import load
from pipeline.run import runner
from pipeline.run.runner import Take
from pipeline.steps.table import STAGES

_QUALITY = {
    "min_image_side": 28,
    "max_aspect": 10,
    "max_characters": 20000,
    "answers": {"max_repeated_words": 0.9, "max_repeated_lines": 0.9, "max_mojibake": 9, "no_refusals": True},
    "questions": {"max_url_share": 0.9, "max_control_characters": 9},
    "japanese": {"min_kana_lines": 0.01},
}
_FILTERS = ("compare", "decontaminate", "language", "quality", "dedupe", "mixture")


class Timed:
    """Does tasks one after the other and adds up their CPU seconds by the step that their folder belongs to."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def run(self, take: Take) -> Iterator[tuple[Task, Record] | None]:
        while (task := take()) is not None:
            started = time.process_time()
            record = do(task)
            step = next(part for part in Path(task.folder).parts[::-1] if part[:2].isdigit())
            name = step.split("-")[1]
            if name != "ingest" or "-rows-" in step:  # and not that of the benchmark
                self.seconds[name] += time.process_time() - started
            yield task, record


def make(top: Path, count: int, every: int) -> None:
    """Pictures with captions, texts, copies of both, and what of them is a benchmark."""
    chance = random.Random(3)
    paths = ingest.make(top / "rows", count * 8 // 10 * 9 // 10, "smooth")
    records = []
    for number, path in enumerate(paths):
        text = chance.choice(list(CAPTIONS.values())).format(a=chance.randint(1, 99), b=chance.randint(1, 99))
        records.append(_record(text, f"images/{path.name}"))
        if number % every == every - 1:
            copy = path.with_name(f"copy-{path.name}")
            Image.open(path).save(copy, quality=80)
            records.append({**records[-1], "image": f"images/{copy.name}"})
    words = " ".join(CAPTIONS.values()).split()
    for number in range(count // 10):
        text = " ".join(chance.choices(words, k=chance.randint(60, 600)))
        records.append(_record(text))
        if number % every == every - 1:
            records.append(_record(text.replace(" the ", " that ", 1)))
    (top / "rows" / "records.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    leaks = count // (5 * every)
    chosen = chance.sample([r for r in records if "image" in r], leaks)
    texts = chance.sample([r for r in records if "image" not in r], leaks)
    (top / "bench").mkdir()
    rows = [{**record, "image": f"../rows/{record['image']}"} for record in chosen]
    for row in rows:
        name = Path(row["image"]).name
        (top / "bench" / name).write_bytes(_again((top / "rows" / "images" / name).read_bytes()))
        row["image"] = name
    (top / "bench" / "records.json").write_text(json.dumps([*rows, *texts], ensure_ascii=False), encoding="utf-8")


def _again(data: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def _record(text: str, image: str = "") -> dict[str, object]:
    question = "<image>\nWhat does it show?" if image else "Tell me more about the sales."
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": text}]
    return {**({"image": image} if image else {}), "conversations": turns}


def measured(top: Path, out: Path, mark: float) -> dict[str, float]:
    """CPU seconds of every step."""
    source = {"format": "conversations", "files": ["records.json"], "images": "."}
    data = {
        "sources": {"rows": source},
        "benchmarks": {"bench": source},
        "dedupe": {"match": {"mark": mark}},
        "decontaminate": {"match": {"mark": mark}},
        "language": {"keep": list(CAPTIONS)},
        "quality": _QUALITY,
        "mixture": {"at_most": 10**9},
        "pretokenise": {},
    }
    places = {"rows": str(top / "rows"), "bench": str(top / "bench"), "tokenizer": str(top / "tokenizer")}
    path = top / "recipe.yaml"
    path.write_text(json.dumps({"data": data, "run": {"out": str(out), "locations": places}}), encoding="utf-8")
    loaded = load(path)
    context = Context(loaded, Content(loaded))
    timed = Timed()
    runner.run([step for step in build(context, STAGES) if step.stage.makes != "shards"], context, timed)
    return timed.seconds


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rows", type=int, default=1500)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--every", type=int, default=4)
    words.add_argument("--mark", type=float, default=0.0)
    given = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="filters-") as folder:
        top = Path(folder)
        make(top, given.rows, given.every)
        tokenizer.learn(list(CAPTIONS.values()), top / "tokenizer")
        rounds = [measured(top, top / f"out-{number}", given.mark) for number in range(given.rounds)]
    middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    count = given.rows
    for name in ("ingest", *_FILTERS):
        print(f"{name:<16}{middle[name] / count * 1000:8.3f} ms of CPU a row {middle[name] / middle['ingest']:7.1%}")
    total = sum(middle[name] for name in _FILTERS)
    print(f"filters / ingest {total / middle['ingest']:.2f} (goal: below 0.40), about {count:,} rows")


if __name__ == "__main__":
    main()
