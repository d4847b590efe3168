"""A few rows of every benchmark of configs/benchmarks/, in the layout that is known of its real files.

Each writes into a folder and returns what its samples must be: (question, answer, images). REFERENCES says what their
answers are compared with: (references, choices, category), sample by sample.
"""

from __future__ import annotations

import base64
import csv
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pipeline.recipe_sources import SMALL, inline, parquet, picture

Told = tuple[list[str], list[str] | None, str | None]
Said = list[tuple[str, str, int]]
DOGS = "How many dogs are there?"
NUMBERS = ["None", "One", "Two", "Three"]
CONFIGS = Path(__file__).parents[2] / "configs" / "benchmarks"


def rows(path: str, *given: dict[str, Any], said: Said, other: str = "") -> Callable[[Path], Said]:
    """A parquet file, with another one beside it that must not be taken along."""

    def write(folder: Path) -> Said:
        parquet(folder / path, list(given))
        if other:
            parquet(folder / other, [{"nothing": "of it"}])
        return said

    return write


def one(**fields: Any) -> dict[str, Any]:
    return {"image": inline(SMALL), "question": DOGS, **fields}


def several(count: int, **fields: Any) -> dict[str, Any]:
    """A row with columns for so many images, two of them filled."""
    images = {f"image_{n}": inline(SMALL, n) if n in (1, 2) else None for n in range(1, count + 1)}
    return {**images, "question": DOGS, **fields}


def accepted(path: str, other: str, **fields: Any) -> Callable[[Path], Said]:
    row = one(answers=["two", "2", "two"], **fields)
    return rows(path, row, said=[(DOGS, "two", 1)], other=other)


def judged(name: str, **fields: Any) -> Callable[[Path], Said]:
    """Of JAMMEval: an answer in words."""
    row = one(answer="二匹です。", original_id=7, **fields)
    return rows(f"{name}/test-00000-of-00001.parquet", row, said=[(DOGS, "二匹です。", 1)])


def mmmu(path: str, other: str, mark: str) -> Callable[[Path], Said]:
    said = {"id": "validation_Art_1", "question": f"{mark} {DOGS}"}
    closed = several(7, options=str(NUMBERS), answer="C", question_type="multiple-choice") | said
    open_one = several(7, options="[]", answer="2", question_type="open") | said
    return rows(path, closed, open_one, said=[(said["question"], "Two", 2), (said["question"], "2", 2)], other=other)


def tsv(name: str, folder: Path) -> Said:
    """TSV, of which one image points to another row, made readable by the command in the declaration."""
    (folder / name).mkdir(parents=True)
    data = base64.b64encode(picture(SMALL)).decode()
    with (folder / name / f"{name}_en.tsv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(["index", "image", "question", "A", "B", "C", "D", "answer"])
        table.writerow(["1", data, DOGS, "One", "Two", "", "", "B"])
        table.writerow(["2", "1", "قطة\tأم كلب؟", "قطة", "كلب", "لا شيء", "", "A"])
    text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
    script = [line[4:] for line in text.split("<<'END'\n")[1].split("#   END")[0].splitlines()]
    given = [sys.executable, "-", f"{name}/{name}_en.tsv"]
    subprocess.run(given, cwd=folder, input="\n".join(script), text=True, check=True)
    return [(DOGS, "Two", 1), ("قطة\tأم كلب؟", "قطة", 1)]


BENCHMARKS: dict[str, Callable[[Path], Said]] = {
    "ai2d": rows("data/test-0.parquet", one(options=NUMBERS, answer="2"), said=[(DOGS, "Two", 1)]),
    "blink": rows(
        "Counting/val-0.parquet",
        several(4, idx="1", sub_task="Counting", choices=NUMBERS, answer="(C)", prompt="How?\n(A) None"),
        said=[(DOGS, "Two", 2)],
        other="Counting/test-0.parquet",
    ),
    "chartqa": rows("data/test-0.parquet", one(type="human_test", answer="2"), said=[(DOGS, "2", 1)]),
    "docvqa": accepted("DocVQA/validation-0.parquet", "DocVQA/test-0.parquet", questionId="1"),
    "infovqa": accepted("InfographicVQA/validation-0.parquet", "DocVQA/validation-0.parquet", questionId="1"),
    "mmmu": mmmu("Art/validation-0.parquet", "Art/dev-0.parquet", "<image 1> and <image 2>:"),
    "okvqa": accepted("data/val2014-0.parquet", "data/train2014-0.parquet"),
    "realworldqa": rows("data/test-0.parquet", one(answer="2"), said=[(DOGS, "2", 1)]),
    "scienceqa": rows(
        "ScienceQA-IMG/test-0.parquet",
        one(choices=NUMBERS, answer=2, hint="Look at it.", subject="natural science"),
        said=[(DOGS, "Two", 1)],
        other="ScienceQA-FULL/test-0.parquet",
    ),
    "textvqa": accepted("data/validation-0.parquet", "data/train-0.parquet", question_id=3, ocr_tokens=["STOP"]),
    "mmmb": functools.partial(tsv, "mmmb"),
    "mmbench": functools.partial(tsv, "mmbench"),
    "pope": rows(
        "data/test-0.parquet",
        one(answer="no", question_id="1", category="popular", id="1", image_source="coco"),
        said=[(DOGS, "no", 1)],
        other="Full/popular-0.parquet",
    ),
    "ocrbench": rows(
        "data/test-0.parquet",
        one(answer=["STOP", "stop"], question_type="Digit String Recognition", dataset="x"),
        said=[(DOGS, "STOP", 1)],
    ),
    "seedbench_2_plus": rows(
        "data/test-0.parquet",
        one(**{f"choice_{letter}": text for letter, text in zip("ABCD", NUMBERS, strict=True)})
        | {"answer": "C", "question_id": "1", "question_image_type": "chart"},
        said=[(DOGS, "Two", 1)],
    ),
    "charxiv": rows(
        "val-0.parquet",
        {"image": inline(SMALL), "reasoning_q": DOGS, "reasoning_a": "2", "category": "cs"},
        said=[(DOGS, "2", 1)],
        other="test-0.parquet",
    ),
    "mmstar": rows(
        "mmstar.parquet",
        one(answer="C", category="math", index=0, l2_category="x", meta_info="y"),
        said=[(DOGS, "C", 1)],
    ),
    "muirbench": rows(
        "data/test-0.parquet",
        {"image_list": [inline(SMALL, 1), inline(SMALL, 2)], "question": f"<image> {DOGS}", "options": NUMBERS}
        | {"answer": "C", "task": "Counting", "idx": "1", "image_relation": "x", "image_type": "y"},
        said=[(f"<image> {DOGS}", "Two", 2)],
    ),
    "mmlu": rows(
        "all/test-0.parquet",
        {"question": DOGS, "subject": "anatomy", "choices": NUMBERS, "answer": 2},
        said=[(DOGS, "Two", 0)],
        other="all/dev-0.parquet",
    ),
    "gsm8k": rows(
        "main/test-0.parquet",
        {"question": DOGS, "answer": "1 + 1 = 2.\n#### 2"},
        said=[(DOGS, "1 + 1 = 2.\n#### 2", 0)],
        other="socratic/test-0.parquet",
    ),
    "cc_ocr_ja": judged("CC-OCR-JA-Refined", ocr="止", image_name="1.jpg"),
    "cvqa_ja": rows(
        "CVQA-JA-Refined/test-0.parquet",
        one(options=NUMBERS, answer=2, License="CC BY 4.0", original_id="7")
        | {"Category": "Food", "Image Type": "Self", "Image Source": "x"},
        said=[(DOGS, "Two", 1)],
    ),
    "heron_bench": judged("Heron-Bench-Refined", image_category="anime", context="猫"),
    "ja_multi_image_vqa": rows(
        "JA-Multi-Image-VQA-Refined/test-0.parquet",
        {"original_id": 1, "images": [inline(SMALL, 1), inline(SMALL, 2)], "question": DOGS, "answer": "二匹です。"}
        | {"image_urls": ["http://x"], "page_urls": ["http://y"]},
        said=[(DOGS, "二匹です。", 2)],
    ),
    "ja_vlm_bench": judged("JA-VLM-Bench-Refined"),
    "jdocqa": judged("JDocQA-Refined"),
    "jgraphqa": judged("JGraphQA-Refined"),
    "businessslidevqa": rows("data/train-0.parquet", one(question_id=1, answer="2"), said=[(DOGS, "2", 1)]),
    "jmmmu": mmmu("Japanese_Art/test-0.parquet", "Japanese_Art/dev-0.parquet", "<image1>"),
    "mecha_ja": rows(
        "data/test-0.parquet",
        one(options=NUMBERS, answer=2, answer_type="count", background_text="犬の話。"),
        said=[(DOGS, "Two", 1)],
    ),
}

TWO: Told = (["C"], NUMBERS, None)
MIXED: list[Told] = [TWO, (["2"], None, None)]
ACCEPTED: list[Told] = [(["two", "2", "two"], None, None)]
JUDGED: list[Told] = [(["二匹です。"], None, None)]


def filed(category: str, told: Told = TWO) -> list[Told]:
    return [(*told[:2], category)]


def tables(name: str) -> list[Told]:
    category = f"{name}/{name}_en"
    return [(["B"], ["One", "Two"], category), (["A"], ["قطة", "كلب", "لا شيء"], category)]


REFERENCES: dict[str, list[Told]] = {
    "ai2d": [TWO],
    "blink": filed("Counting"),
    "chartqa": filed("human_test", (["2"], None, None)),
    "docvqa": ACCEPTED,
    "infovqa": ACCEPTED,
    "mmmu": MIXED,
    "okvqa": ACCEPTED,
    "realworldqa": [(["2"], None, None)],
    "scienceqa": filed("natural science"),
    "textvqa": ACCEPTED,
    "mmmb": tables("mmmb"),
    "mmbench": tables("mmbench"),
    "pope": [(["no"], None, "popular")],
    "ocrbench": [(["STOP", "stop"], None, "Digit String Recognition")],
    "seedbench_2_plus": filed("chart"),
    "charxiv": [(["2"], None, "cs")],
    "mmstar": [(["C"], None, "math")],
    "muirbench": filed("Counting"),
    "mmlu": filed("anatomy"),
    "gsm8k": [(["1 + 1 = 2.\n#### 2"], None, None)],
    "cc_ocr_ja": JUDGED,
    "cvqa_ja": filed("Food"),
    "heron_bench": filed("anime", JUDGED[0]),
    "ja_multi_image_vqa": JUDGED,
    "ja_vlm_bench": JUDGED,
    "jdocqa": JUDGED,
    "jgraphqa": JUDGED,
    "businessslidevqa": [(["2"], None, None)],
    "jmmmu": MIXED,
    "mecha_ja": filed("count"),
}
