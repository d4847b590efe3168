"""Columns that nobody reads are told by `plan`, by the run and by the report; `ignore` silences and redoes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.cli import main
from schemas.manifest import read
from tests.pipeline.conftest import MakeRecipe, opened, run, write_yaml

TURNS = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "Red."}]
LOST = [{"from": "human", "value": "And?"}, {"from": "gpt", "value": "Blue, I think.", "loss": False}]


@pytest.fixture
def recipe(tiny_recipe: MakeRecipe, tmp_path: Path) -> Path:
    """Two sources: lines with keys of their own, and parquet with columns of its own."""
    for name in ("lines", "table"):
        (tmp_path / name).mkdir()
    rows: list[dict[str, Any]] = [{"id": str(n), "conversations": TURNS, "model": ""} for n in range(10)]
    rows[3]["system"] = "Be brief."
    rows[4]["conversations"] = [*LOST, {**TURNS[0], "mood": "good"}, TURNS[1]]
    rows[5]["videos"] = ["a.mp4"]
    (tmp_path / "lines" / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = [{"texts": [{"user": "What?", "assistant": f"Red {n}."}], "hash": n, "empty": None} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "table" / "a.parquet")

    def edit(mapping: dict[str, Any]) -> None:
        data = mapping["data"]
        sources = {name: {"format": form, "files": ["*"]} for name, form in SOURCES.items()}
        mapping["data"] = {"sources": sources, "ingest": data["ingest"], "pretokenise": data["pretokenise"]}
        places = {name: str(tmp_path / name) for name in SOURCES}
        mapping["run"]["locations"] = {"tokenizer": mapping["run"]["locations"]["tokenizer"], **places}

    return tiny_recipe(edit)


SOURCES = {"lines": "conversations", "table": "texts"}


def test_what_nobody_reads_is_told_before_while_and_after(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(recipe)]) == 0
    told = capsys.readouterr().out
    assert "note: ingest lines: nobody reads conversations[].mood, id;" in told
    assert "note: ingest table: nobody reads hash;" in told
    context, _ = run(recipe)
    told = capsys.readouterr().out
    assert told.count("nobody reads conversations[].mood (1), id (9); `ignore: [...]` in the source silences this") == 1
    assert told.count("nobody reads hash (5);") == 1
    assert main(["plan", str(recipe)]) == main(["report", str(recipe)]) == 0
    assert "note: ingest lines: nobody reads conversations[].mood (1), id (9);" in capsys.readouterr().out
    notices = json.loads((context.out / "report.json").read_text())["notices"]
    assert set(notices) == {"ingest lines", "ingest table"} and "hash (5)" in notices["ingest table"]
    assert "nobody reads hash (5)" in (context.out / "report.html").read_text()


def test_to_silence_a_column_redoes_nothing(recipe: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, steps = run(recipe)
    mapping = yaml.safe_load(recipe.read_text())
    mapping["data"]["sources"]["lines"]["ignore"] = ["id", "conversations[].mood"]
    capsys.readouterr()
    silent = write_yaml(tmp_path / "silent.yaml", mapping)
    assert [step.folder for step in opened(silent)[1]] == [step.folder for step in steps]
    assert main(["plan", str(silent)]) == 0
    assert "ingest lines: nobody" not in capsys.readouterr().out
    mapping["data"]["sources"]["lines"]["ignore"] = ["idd", "conversations[].mood"]
    assert main(["plan", str(write_yaml(tmp_path / "misspelt.yaml", mapping))]) == 0
    assert "nobody reads id (9); `ignore` has 'idd', which no row has; did you mean 'id'?" in capsys.readouterr().out
    mapping["data"]["sources"]["lines"]["ignore"] = ["videos"]
    other = opened(write_yaml(tmp_path / "other.yaml", mapping))[1]
    assert {step.name for step in other if step.folder not in {s.folder for s in steps}} >= {"ingest lines"}


def test_systems_and_turns_without_loss_reach_the_shards(recipe: Path) -> None:
    context, steps = run(recipe)
    ingested = next(step for step in steps if step.name == "ingest lines")
    assert read(context.out / ingested.folder).counts.rejected == {"other_modality": 1}
    samples = {
        row["sample_id"]: row
        for path in sorted((context.out / ingested.folder).glob("part-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }
    assert [m["role"] for m in samples["lines/a.jsonl#3"]["messages"]] == ["system", "user", "assistant"]
    assert [m["loss"] for m in samples["lines/a.jsonl#4"]["messages"]] == [None, False, None, None]
    rows = {}
    for shard in (context.out / steps[-1].folder).glob("*.arrow"):
        rows |= {row["sample_id"]: row for row in pyarrow.ipc.open_file(shard).read_all().to_pylist()}
    plain, marked = rows["lines/a.jsonl#0"], rows["lines/a.jsonl#4"]
    assert marked["num_target_tokens"] == plain["num_target_tokens"] > 0
    assert marked["num_text_tokens"] > plain["num_text_tokens"] + len("Blue, I think.")
