"""`decontaminate` in a run opens the files of both sides where signatures can't tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.run import runner
from pipeline.run.runner import Serial
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import opened, write_yaml
from tests.stages.pictures import cropped, encoded, page


def captions(folder: Path, images: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, data in images.items():
        (folder / name).write_bytes(data)
    rows = [{"image": name, "caption": "As it is."} for name in images]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_cropped_page_is_a_leak_and_one_with_another_number_is_none(tmp_path: Path) -> None:
    """By signatures alone a cropped page is none."""
    other, crop = page("5,120.7"), cropped(page(), 0.02)
    blank = {"bench-0.png": encoded(other.rotate(90)), "bench-1.png": encoded(page())}
    captions(tmp_path / "bench", blank)
    captions(tmp_path / "mine", {"other.jpg": encoded(other, "JPEG"), "crop.jpg": encoded(crop, "JPEG", quality=90)})
    tiny_corpus.tokenizer(tmp_path / "tokenizer")
    source = {"format": "caption", "images": ".", "files": ["*.jsonl"], "prompt": "What is this?"}
    tiles = {"scheme": "internvl", "tile": 16, "patch": 4, "merge": 2, "max_tiles": 2}
    data: dict[str, Any] = {
        "sources": {"mine": source},
        "benchmarks": {"bench": source},
        "decontaminate": {"text": None},
        "quality": "off",
        "pretokenise": {"tiles": tiles, "tokens": {"image": "<image>"}},
    }
    places = {name: str(tmp_path / name) for name in ("mine", "bench", "tokenizer")}
    path = write_yaml(tmp_path / "recipe.yaml", {"data": data, "run": {"out": "unused", "locations": places}})
    context, steps = opened(path, tmp_path / "out")
    steps = [step for step in steps if step.stage.makes != "shards"]
    runner.run(steps, context, Serial())
    (judge,) = [step for step in steps if step.stage.makes == "verdicts"]
    (verdict,) = (context.out / judge.folder).glob("verdict-*.parquet")
    found = {row["sample_id"]: row["benchmark_id"] for row in pq.read_table(verdict).to_pylist()}
    assert found == {"mine/rows.jsonl#0": None, "mine/rows.jsonl#1": "bench/rows.jsonl#1"}
