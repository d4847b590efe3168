"""Drop samples that show a benchmark's image or hold its text, so that evaluation measures something.

Benchmarks are sources of their own in the recipe, ingested like the others, or come as files of sketches
(stages/filters/leak_sketch.py) that need not hold the benchmarks themselves. A sample is contaminated if any of its
images has the bytes of a benchmark image or matches one by sight (stages/filters/leaked_image.py), whatever the
question; or if it holds the text of a question or of a long answer (stages/filters/leaked_text.py). `text: null` looks
at images alone. Only the split that is evaluated must be given: what shares a picture with a train split is no leak.

Reads image_info and messages. Evidence: the benchmark and its sample, with the Hamming distance of the image, or the
share of the text that is there and its words; of a sample that is kept the share below `coverage` that came nearest.
Of a sample with both, benchmark and sample are the image's. `answer`: whether the text is an answer alone. So the
evidence tells which samples would move for another `text.coverage`, and for a smaller `match.radius`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from stages.filters import leak_sketch, leaked_image
from stages.filters.image_match import Match
from stages.filters.leak_sketch import sketch
from stages.filters.leaked_image import Leak, MyFiles, TheirFiles, leaks
from stages.filters.leaked_text import Hit, TextMatch, Texts
from stages.stage import Again, Assets, Filter


@dataclass(frozen=True)
class DecontaminateParams:
    """When a picture and when a text counts as a benchmark's; files of sketches, relative to the recipe."""

    match: Match = field(default_factory=Match)
    text: TextMatch | None = field(default_factory=TextMatch)
    sketches: tuple[str, ...] = ()


REASONS = {
    "benchmark_image": "shows an image of a benchmark",
    "benchmark_question": "holds the text of a question of a benchmark",
    "benchmark_answer": "holds the text of a long answer of a benchmark",
}

EVIDENCE = pa.schema(
    [
        ("benchmark", pa.string()),
        ("benchmark_id", pa.string()),
        ("distance", pa.int32()),
        ("overlap", pa.float32()),
        ("words", pa.float32()),
        ("answer", pa.bool_()),
    ]
)


class Index(NamedTuple):
    """The benchmarks' images and texts; `files`: of their images; `benchmark_of`: sample_id -> benchmark."""

    images: leaked_image.Index
    texts: Texts | None
    benchmark_of: dict[str, str]
    files: TheirFiles


def load(params: DecontaminateParams, assets: Assets) -> Index:
    """Index the benchmark samples (leak_sketch.COLUMNS) and the files of sketches."""
    given = [] if assets.benchmarks is None else [sketch(assets.benchmarks, params.text)]
    kept = pa.concat_tables([*given, leak_sketch.read(_sketches(assets).values(), params.text)])
    names = kept["sample_id"].to_pylist()
    images = leaked_image.Index.of(zip(names, kept["image_info"].to_pylist(), strict=True))
    benchmark_of = dict(zip(names, kept["benchmark"].to_pylist(), strict=True))
    return Index(images, _texts(kept, params.text), benchmark_of, assets.images)


def _texts(kept: pa.Table, match: TextMatch | None) -> Texts | None:
    if match is None:
        return None
    columns = (kept["sample_id"].to_pylist(), kept["image_info"].to_pylist(), kept["rounds"].to_pylist())
    return Texts.of(((name, bool(infos), rounds) for name, infos, rounds in zip(*columns, strict=True)), match)


def _sketches(assets: Assets) -> dict[str, Path]:
    """The files of sketches, by the places where the parameters name them."""
    return {name: path for name, path in assets.files.items() if name.startswith("sketches[")}


def check(params: DecontaminateParams, assets: Assets) -> None:
    """Raise ValueError for a file that holds no sketches, or others."""
    for name, path in _sketches(assets).items():
        try:
            leak_sketch.check(path, params.text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def judge(
    table: pa.Table, params: DecontaminateParams, given: tuple[Index, MyFiles]
) -> tuple[list[str | None], pa.Table]:
    """Verdicts for the samples of one part; `table` has image_info and messages."""
    index, files = given
    said = _said(table, params.text, index.texts)
    shown = leaks(table["image_info"].to_pylist(), index.images, params.match, files, index.files)
    found = [_told(image, text, params) for image, text in zip(shown, said, strict=True)]
    ids = [evidence[0] for _, evidence in found]
    rest = [[evidence[column] for _, evidence in found] for column in range(1, 5)]
    names = [None if sample_id is None else index.benchmark_of[sample_id] for sample_id in ids]
    return [reason for reason, _ in found], pa.table([names, ids, *rest], schema=EVIDENCE)


_Evidence = tuple[str | None, int | None, float | None, float | None, bool | None]


def _told(image: Leak | None, text: Hit | None, params: DecontaminateParams) -> tuple[str | None, _Evidence]:
    """The verdict on a sample, and its evidence but for the benchmark's name."""
    nearest = image or text
    sample_id = None if nearest is None else nearest.sample_id
    distance = None if image is None else image.distance
    overlap, words, answer = (None, None, None) if text is None else (text.overlap, text.words, text.answer)
    return _reason(distance, overlap, answer, params), (sample_id, distance, overlap, words, answer)


def _reason(
    distance: int | None, overlap: float | None, answer: bool | None, params: DecontaminateParams
) -> str | None:
    """An image goes before a text. Shares are compared as they are kept."""
    if distance is not None and distance <= params.match.radius:
        return "benchmark_image"
    if params.text is None or overlap is None or np.float32(overlap) < np.float32(params.text.coverage):
        return None
    return "benchmark_answer" if answer else "benchmark_question"


def judge_again(verdict: pa.Table, samples: pa.Table, params: DecontaminateParams) -> tuple[list[str | None], None]:
    """Reasons under another coverage, or within a smaller radius."""
    columns = (verdict[name].to_pylist() for name in ("distance", "overlap", "answer"))
    return [_reason(bits, share, answer, params) for bits, share, answer in zip(*columns, strict=True)], None


def refuse(before: DecontaminateParams, after: DecontaminateParams) -> str:
    """The key that asks for what was not compared, or not so far."""
    if after.match.radius > before.match.radius:
        return f"match.radius: got {after.match.radius}, it looked no further than {before.match.radius}"
    if after.match.leeway != before.match.leeway:
        return "match.leeway is about the pictures themselves"
    if after.sketches != before.sketches:
        return "sketches are other benchmarks"
    if after.text is not None and before.text is None:
        return "text was off when it ran"
    same = (
        after.text is None or before.text is None or replace(after.text, coverage=before.text.coverage) == before.text
    )
    return "" if same else "text: of its keys, coverage alone is compared with what was found"


def _said(table: pa.Table, match: TextMatch | None, texts: Texts | None) -> list[Hit | None]:
    """Per sample the benchmark's text of which it holds most."""
    if match is None or texts is None:
        return [None] * len(table)
    return texts.found_in(table["messages"].to_pylist(), match.ngram)


DECONTAMINATE = Filter(
    name="decontaminate",
    version=4,
    params=DecontaminateParams,
    reasons=REASONS,
    columns=("image_info", "messages"),
    evidence=EVIDENCE,
    tells_of_kept=False,
    judge=judge,
    load=load,
    check=check,
    benchmark_columns=leak_sketch.COLUMNS,
    named_files="sketches",
    opens_images=True,
    again=Again(judge_again, refuse),
)
