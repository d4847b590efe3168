"""The step `compare` at work: its three phases, what is exchanged between them, and what it leaves for a person."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.graph.errors import StepError
from pipeline.run import runner
from pipeline.run.runner import Executor, Serial
from pipeline.steps import compare
from schemas.manifest import Counts
from schemas.strict import RecipeError
from stages.duplicates import near_misses
from stages.duplicates.near_misses import MISSES, WHY
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import opened, run, write_yaml
from tests.pipeline.executors import Counts as Watched
from tests.pipeline.executors import DiesAfter, Killed, Shuffled
from tests.stages.pictures import bar_chart, encoded, photo

QUESTION = "Tell me all that you know"
Make = Callable[..., Path]
WORDS = [f"{a}{b}" for a in ("ba", "de", "fi", "go", "ku", "la") for b in ("n", "r", "s", "t", "mi", "no")]


def texts() -> list[str]:
    """Near ones (n.0 to n.2), those with another number, and each first one once more."""
    found = []
    for seed in range(8):
        rng = random.Random(seed)
        words = [rng.choice(WORDS) for _ in range(100)]
        found += [" ".join([*words[:place], "other", *words[place:]]) for place in (0, 40, 80)]
        found += [f"{' '.join(words)} {seed}", f"{' '.join(words)} {seed + 1}", found[-3]]
    return found


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for name in ("talks", "charts", "tokenizer"):
        (folder / name).mkdir()
    rows = [
        {"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": text}]}
        for text in texts()
    ]
    write_lines(folder / "talks" / "talks.jsonl", rows)
    photos = [photo(seed, 320, 240) for seed in range(2)]
    small = [image.resize((160, 120), Image.Resampling.LANCZOS) for image in photos]
    images = [*photos, *small, *(bar_chart([50, 60, 70, 80, height]) for height in range(10, 100, 12))]
    for number, image in enumerate(images):
        (folder / "charts" / f"{number}.png").write_bytes(encoded(image))
    captions = [{"image": f"{number}.png", "caption": "As it is."} for number in range(len(images))]
    write_lines(folder / "charts" / "charts.jsonl", captions)
    tiny_corpus.tokenizer(folder / "tokenizer")
    return folder


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def recipe(raw: Path, tmp_path: Path) -> Make:
    """A recipe file; `dedupe`: its section."""

    def make(sources: tuple[str, ...] = ("talks", "charts"), rows_per_part: int = 7, **dedupe: Any) -> Path:
        charts = {"format": "caption", "images": ".", "files": ["*.jsonl"], "prompt": "What is this?"}
        declared = {"talks": {"format": "messages", "files": ["*.jsonl"]}, "charts": charts}
        data = {
            "sources": {name: declared[name] for name in sources},
            "ingest": {"rows_per_part": rows_per_part},
            "dedupe": dedupe,
            "quality": "off",
            "pretokenise": {"tiles": {"scheme": "internvl", "tile": 16, "patch": 4, "merge": 2, "max_tiles": 2}},
        }
        data["pretokenise"]["tokens"] = {"image": "<image>"}
        places = {name: str(raw / name) for name in (*sources, "tokenizer")}
        return write_yaml(tmp_path / "recipe.yaml", {"data": data, "run": {"out": "unused", "locations": places}})

    return make


def compared(path: Path, out: Path, executor: Executor | None = None) -> tuple[Path, list[Any]]:
    """The folder of the finished step, and the steps up to dedupe's."""
    context, steps = opened(path, out)
    steps = [step for step in steps if step.stage.name != "pretokenise"]
    runner.run(steps, context, executor or Serial())
    step = next(step for step in steps if step.stage.makes == "pairs")
    return context.out / step.folder, steps


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = [row for path in sorted(folder.glob(f"{kind}-*.parquet")) for row in pq.read_table(path).to_pylist()]
    return [{name: value for name, value in row.items() if not name.endswith(("_part", "_row"))} for row in found]


def evidence(folder: Path) -> tuple[list[str], list[str]]:
    """Pairs and near misses, without the places of samples."""
    pairs = sorted(str(row) for row in rows(folder, "pairs"))
    misses = pq.read_table(folder / "near_misses.parquet").drop_columns(
        [f"{side}_{name}" for side in ("left", "right") for name in ("part", "row")]
    )
    return pairs, [str(row) for row in misses.to_pylist()]


def test_pairs_and_near_misses_say_what_is_on_both_sides_of_the_line(recipe: Make, tmp_path: Path) -> None:
    folder, _ = compared(recipe(), tmp_path / "out")
    pairs = rows(folder, "pairs")
    assert len({(row["left_sample_id"], row["right_sample_id"]) for row in pairs}) == len(pairs)
    assert sum(row["exact"] for row in pairs) == 8
    assert sum(row["jaccard"] is not None and not row["exact"] for row in pairs) >= 8
    assert sum(row["distance"] is not None for row in pairs) == 2
    misses = pq.read_table(folder / "near_misses.parquet", schema=MISSES).to_pylist()
    assert {row["why"] for row in misses} == {"numbers", "sight"} <= WHY.keys()
    told = {(row["left_sample_id"], row["right_sample_id"]) for row in misses}
    assert len(told) == len(misses) and not told & {(row["left_sample_id"], row["right_sample_id"]) for row in pairs}
    assert [row["rank"] for row in misses] == sorted(row["rank"] for row in misses)
    for row in misses:
        number = row["why"] == "numbers"
        assert (row["jaccard"] is not None and row["jaccard"] > 0.8) == number == (row["distance"] is None)
        assert row["left_sample_id"].startswith("talks" if number else "charts")


@pytest.mark.parametrize("unit", ["sample", "image", "text"])
def test_pairs_and_near_misses_are_the_same_whatever_the_parts_buckets_and_order(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    folder, _ = compared(recipe(rows_per_part=1000, unit=unit), tmp_path / "whole")
    wanted = evidence(folder)
    monkeypatch.setattr(compare, "_ROWS", 9)
    monkeypatch.setattr(compare, "_BUCKET", 11)
    folder, steps = compared(recipe(rows_per_part=4, unit=unit), tmp_path / "cut", (watched := Watched()))
    assert evidence(folder) == wanted
    mine = [task for task in watched.tasks if Path(task.folder).name in ("sketches", "found", folder.name)]
    assert len([task for task in mine if Path(task.folder).name == "found"]) > 4
    assert len([task for task in mine if Path(task.folder) == folder]) > 4
    folder, _ = compared(recipe(rows_per_part=4, unit=unit), tmp_path / "shuffled", Shuffled())
    assert evidence(folder) == wanted
    assert [step.stage.name for step in steps][-1] == "dedupe"


def test_killed_after_any_task_the_step_ends_with_the_same_bytes(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_ROWS", 15)
    monkeypatch.setattr(compare, "_BUCKET", 20)
    path = recipe()
    wanted, _ = compared(path, tmp_path / "whole")
    for _ in range(100):
        with contextlib.suppress(Killed):
            folder, _ = compared(path, tmp_path / "killed", DiesAfter(1))
            break
    names = sorted(file.name for file in wanted.iterdir() if file.name != "run.json")
    assert names == sorted(file.name for file in folder.iterdir() if file.name != "run.json")
    assert all((wanted / name).read_bytes() == (folder / name).read_bytes() for name in names)


@pytest.mark.parametrize("kind", ["sketches", "bands"])
def test_a_flipped_byte_of_what_is_exchanged_is_one_line(recipe: Make, tmp_path: Path, kind: str) -> None:
    path, out = recipe(), tmp_path / "out"
    while not (files := sorted(out.glob(f"03-compare-*/sketches/{kind}-00000.rows"))):
        with contextlib.suppress(Killed):
            compared(path, out, DiesAfter(1))
    data = bytearray(files[0].read_bytes())
    data[len(data) // 3] ^= 4
    files[0].write_bytes(data)
    with pytest.raises(StepError, match=rf"compare: 1 of 1 buckets .*{kind}-00000\.rows: damaged"):
        compared(path, out)


def test_a_sample_that_never_comes_into_a_bucket_ends_the_run(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy(*given: Any) -> pa.Table:
        return whole(*given).slice(1)

    whole = compare.sketches
    monkeypatch.setattr(compare, "sketches", lossy)
    with pytest.raises(StepError, match=r"compare: \d+ samples were sketched and \d+ came into buckets"):
        compared(recipe(), tmp_path / "out")


def test_unit_text_is_refused_where_every_sample_has_pictures(recipe: Make, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.dedupe\.unit: got text, but each of the 12 samples has pictures"):
        compared(recipe(("charts",), unit="text"), tmp_path / "out")
    folder, steps = compared(recipe(unit="text"), tmp_path / "both")
    context, _ = opened(recipe(unit="text"), tmp_path / "both")
    assert {row["left_sample_id"].split("/")[0] for row in rows(folder, "pairs")} == {"talks"}
    dedupe = next(step for step in steps if step.stage.name == "dedupe")
    by_source = context.finished(dedupe).by_source
    assert by_source["charts"] == Counts(12, 12) and sum(by_source["talks"].dropped.values()) == 3 * 8


def test_near_misses_are_few_and_their_choice_depends_on_content_alone(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = compared(recipe(), tmp_path / "all")
    every = evidence(folder)[1]
    for number in (3, 5):
        monkeypatch.setattr(near_misses.smallest, "__defaults__", (number,))
        folder, _ = compared(recipe(rows_per_part=number), tmp_path / f"few{number}")
        assert evidence(folder)[1] == every[:number]


def test_show_and_report_lead_to_the_evidence(recipe: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = recipe(), tmp_path / "out"
    run(path, out)
    capsys.readouterr()
    assert main(["show", str(path), "talks/talks.jsonl#1", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    line = " ".join(told[told.index("\ndedupe") :].split("\npretokenise")[0].split())
    assert "near_duplicate" in line and "kept_id talks/talks.jsonl#" in line and "jaccard 0.9" in line
    assert main(["report", str(path), "--out", str(out)]) == 0
    assert "near_misses.parquet" in (out / "report.html").read_text(encoding="utf-8")


def test_show_prints_the_sample_that_stays_and_those_that_go_for_it(
    recipe: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(sources=("charts",))
    _, steps = compared(path, tmp_path / "out")
    (dedupe,) = [step for step in steps if step.stage.name == "dedupe"]
    files = sorted((tmp_path / "out" / dedupe.folder).glob("verdict-*.parquet"))
    gone = next(row for file in files for row in pq.read_table(file).to_pylist() if row["reason"])
    for sample_id, told in (
        (gone["sample_id"], f"stays instead: {gone['kept_id']}\n  user  [image]What is this?"),
        (gone["kept_id"], f"dropped in favour of it: {gone['sample_id']}"),
    ):
        assert main(["show", str(path), sample_id, "--out", str(tmp_path / "out")]) == 0
        assert told in capsys.readouterr().out


def test_the_blocks_that_are_exchanged_stay_bounded_and_so_do_tasks_and_buckets() -> None:
    """At the sizes that the module's comment promises: what a task and a bucket hold, and tasks x buckets."""
    for rows, most in ((10**5, 4), (10**6, 400), (2 * 10**7, 60_000), (10**9, 20_000_000)):
        tasks, buckets = -(-rows // compare.task_rows(rows)), compare.bucket_count(rows)
        assert tasks * buckets <= most
        assert compare.task_rows(rows) <= 131_072 and rows / buckets <= 400_000
