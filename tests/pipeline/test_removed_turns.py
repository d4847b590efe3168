"""A run that removes turns: shards, census and publication hold the same turns, and the ledger of turns adds up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli import main
from pipeline.commands.funnel import funnel
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.publish.publish import publish
from schemas.manifest import Counts, read
from stages.chat import ChatFormat
from tests.pipeline import published_corpus, tiny_corpus
from tests.pipeline.conftest import run, write_yaml

Finished = tuple[Path, Context, list[Step]]
QUALITY = {"turns": {"min_ratings": {"x_ratings": 2}, "remove": "all"}, "answers": {"max_characters": 20}}


def rated(number: int, *turns: tuple[str, int]) -> dict[str, Any]:
    """A row with one picture, shown at its first turn."""
    return {
        "images": [{"bytes": tiny_corpus.picture(50 + number), "path": None}],
        "texts": [{"user": f"Q{n}?", "assistant": said} for n, (said, _) in enumerate(turns)],
        "x_ratings": [rating for _, rating in turns],
        "x_min": min(rating for _, rating in turns),
    }


ROWS = [
    rated(0, ("GONE low", 1), ("It stays.", 5), ("GONE " + "long" * 9, 5), ("The end.", 2)),
    rated(1, ("All of it.", 3), ("Is kept.", 4)),
    rated(2, ("GONE a", 1), ("GONE b", 1)),
    rated(3, ("First.", 2), ("", 5)),
]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("removed") / "raw"
    published_corpus.write(folder)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "rated" / "r.parquet")
    return folder


def recipe(raw: Path, out: Path, **quality: Any) -> dict[str, Any]:
    mapping = published_corpus.recipe(raw, out)
    mapping["data"]["quality"] = {**QUALITY, **quality}
    return mapping


@pytest.fixture(scope="module")
def finished(raw: Path) -> Finished:
    path = write_yaml(raw.parent / "removing.yaml", recipe(raw, raw.parent / "out"))
    return (path, *run(path))


def shard_rows(context: Context, last: Step) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted((context.out / last.folder).glob("shard-*.arrow")):
        with pa.OSFile(str(path)) as source:
            rows += pa.ipc.open_file(source).read_all().to_pylist()
    return rows


def test_a_removed_turn_is_in_no_shard_and_its_picture_stays(finished: Finished) -> None:
    _, context, steps = finished
    chat = ChatFormat.load(context.out / steps[-1].folder / "tokenizer", steps[-1].params.tokens)
    rows = {row["sample_id"]: row for row in shard_rows(context, steps[-1]) if row["source"] == "rated"}
    said = {name: chat.decode(row["input_ids"], False) for name, row in rows.items()}
    assert list(rows) == [f"rated/r.parquet#{n}" for n in (0, 1, 3)]
    assert not any("GONE" in text for text in said.values())
    first = said["rated/r.parquet#0"]
    assert first.index("<img>") < first.index("Q1?") < first.index("It stays.") < first.index("Q3?")
    assert rows["rated/r.parquet#0"]["images"] == [{"bytes": tiny_corpus.picture(50), "path": None}]
    assert "Q1?" not in said["rated/r.parquet#3"]


def test_the_ledger_of_turns_adds_up_from_the_manifest_to_the_report(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    path, context, steps = finished
    (judge,) = steps[-1].making("verdicts")
    facts = read(context.out / judge.folder).facts["turns"]
    assert Counts(**facts["rated"]) == Counts(10, 5, {"empty_answer": 1, "long_answer": 1, "low_turn_rating": 3})
    total = funnel(steps, context).turns["quality"]
    assert total == sum((Counts(**counted) for counted in facts.values()), Counts())
    assert total.rows_in == total.kept + sum(total.dropped.values())
    assert read(context.out / judge.folder).by_source["rated"] == Counts(4, 3, {"no_turn_left": 1})
    assert main(["run", str(path)]) == 0
    line = (
        f"{total.rows_in} turns = {total.kept} kept by quality + {total.dropped['empty_answer']} quality.empty_answer"
    )
    assert line in capsys.readouterr().out
    assert main(["report", str(path)]) == 0
    page = (context.out / "report.html").read_text(encoding="utf-8")
    assert "Turns that quality saw" in page and "quality.low_turn_rating" in page
    assert "the source rates a turn below a minimum" in page
    assert main(["verify", str(context.out)]) == 0


def test_the_census_counts_the_turns_that_stay(finished: Finished, tmp_path: Path) -> None:
    path, context, steps = finished
    assert main(["census", str(path), "--json", str(tmp_path / "c.json")]) == 0
    (found,) = json.loads((tmp_path / "c.json").read_text())["recipes"]
    assert found["totals"] == read(context.out / steps[-1].folder).facts["totals"]


def test_what_is_published_makes_the_same_tokens_again(
    finished: Finished, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, context, steps = finished
    target = tmp_path / "published"
    publish(steps, context, path, target, 2000)
    held = [row for file in sorted((target / "data").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    assert "GONE" not in str(held) and "rated/r.parquet#0" in {row["sample_id"] for row in held}
    assert main(["probe", str(target)]) == 0
    source = yaml.safe_load(capsys.readouterr().out)["data"]["sources"]["published"]
    again = write_yaml(tmp_path / "again.yaml", published_corpus.again(target, raw, tmp_path / "out", source))
    other, made = run(again)
    ours, theirs = shard_rows(context, steps[-1]), shard_rows(other, made[-1])
    for name in ("input_ids", "target_spans", "images", "tiles"):
        assert [row[name] for row in ours] == [row[name] for row in theirs]


def test_a_rating_of_turns_that_no_source_gives_ends_the_run_before_it_begins(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = recipe(raw, tmp_path / "out", turns={"min_ratings": {"y_ratings": 2}})
    assert main(["run", str(write_yaml(tmp_path / "wrong.yaml", wrong))]) == 2
    error = capsys.readouterr().err
    assert "data.quality.turns.min_ratings.y_ratings: no source rates its turns under that name" in error


def test_another_limit_runs_the_filter_and_what_follows_alone(finished: Finished, raw: Path, tmp_path: Path) -> None:
    _, context, steps = finished
    path = write_yaml(tmp_path / "other.yaml", recipe(raw, context.out, answers={"max_characters": 19}))
    _, others = run(path)
    before = {step.folder for step in steps}
    moved = {step.name for step in others if step.folder not in before}
    assert moved == {"quality", "pretokenise"}
