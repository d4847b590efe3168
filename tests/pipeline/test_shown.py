"""Names and texts that a terminal would obey, or that its library would make something of: shown as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.stage import Step
from pipeline.run import runner
from pipeline.run.runner import Serial
from tests.pipeline import tiny_corpus
from tests.pipeline.conftest import MakeRecipe, opened, run, write_yaml

EVIL = "\x1b]0;owned\x07\u202e[bold]:smile:[red]"


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command writes, without anything that a terminal would obey."""
    capsys.readouterr()
    main(list(arguments))
    seen = capsys.readouterr()
    for text in (seen.out, seen.err):
        assert not set(text) & set("\x1b\x07\u202e\r") and "😄" not in text
    return seen.out + seen.err


@pytest.fixture
def evil(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run on a source that has such names and texts everywhere."""
    monkeypatch.setenv("COLUMNS", "200")
    raw = tmp_path / f"raw {EVIL}"
    raw.mkdir()
    said = [{"role": "user", "content": f"Say {EVIL}"}, {"role": "assistant", "content": f"Said {EVIL}"}]
    rows = [{"messages": said}, {"messages": [], EVIL: 1}, {"messages": said[:1] * 2, "images": [f"{EVIL}.png"]}]
    (raw / f"a{EVIL}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (raw / f"b{EVIL}.jsonl").symlink_to(tmp_path)
    (raw / EVIL).symlink_to("nowhere")
    mapping = tiny_corpus.recipe(tiny, tmp_path / f"out {EVIL}")
    mapping["data"] = {
        "sources": {"mine": {"format": "messages", "files": ["a*.jsonl"]}},
        "pretokenise": mapping["data"]["pretokenise"],
    }
    mapping["run"]["locations"] = {"mine": str(raw), "tokenizer": str(tiny / "tokenizer")}
    recipe = write_yaml(tmp_path / "recipe.yaml", mapping)
    recipe.write_text(json.dumps(mapping))
    run(recipe)
    return recipe


@pytest.mark.parametrize("terminal", [False, True])
def test_no_command_obeys_what_the_data_says(
    evil: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    out = json.loads(evil.read_text())["run"]["out"]
    raw = json.loads(evil.read_text())["run"]["locations"]["mine"]
    name = next(path.name for path in Path(raw).iterdir() if path.name.startswith("a"))
    for row, words in enumerate(("Said", "rejected at ingest")):
        shown = check(capsys, "show", str(evil), f"mine/{name}#{row}")
        assert words in shown and ":smile:" in shown and "[bold]" in shown
    for command in ("plan", "rejects", "run", "report"):
        assert ":smile:" in check(capsys, command, str(evil))
    assert ":smile:" in check(capsys, "verify", out)
    assert ":smile:" in check(capsys, "probe", raw)
    assert "no such row" in check(capsys, "show", str(evil), f"mine/{EVIL}#9")
    assert "error: " in check(capsys, "rejects", str(evil), "--save", f"/dev/null/{EVIL}.parquet")
    assert "error: " in check(capsys, "plan", f"{EVIL}.yaml")
    assert "error: " in check(capsys, "plan", str(evil), "--set", f"run.{EVIL}=1")
    assert "error: " in check(capsys, EVIL)


def test_errors_about_columns_and_files_are_escaped(
    evil: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Serial()
    here.begin = here.close = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setattr("pipeline.cli.RayExecutor", lambda *_: here)
    mapping: dict[str, Any] = json.loads(evil.read_text())
    mapping["data"]["sources"]["mine"]["columns"] = {"messages": EVIL + "x"}
    evil.write_text(json.dumps(mapping))
    assert "no column" in check(capsys, "ingest", str(evil))
    raw = Path(mapping["run"]["locations"]["mine"])
    pq.write_table(pa.table({EVIL: [1], "b": [EVIL]}), raw / "c.parquet")
    assert "can't tell" in check(capsys, "probe", str(raw / "c.parquet"))
    mapping["data"]["sources"]["mine"]["files"] = [EVIL]
    evil.write_text(json.dumps(mapping))
    assert "nothing below" in check(capsys, "plan", str(evil))


def test_a_finished_step_that_lost_a_file_is_not_called_interrupted(
    tiny_run: tuple[Path, Context, list[Step]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    recipe, context, steps = tiny_run
    shutil.copytree(context.out, tmp_path / "out")
    (tmp_path / "out" / steps[-1].folder / "shard-00001.arrow").unlink()
    (tmp_path / "out" / steps[-1].folder / "shard-00002.arrow").write_bytes(b"")
    assert main(["plan", str(recipe), "--out", str(tmp_path / "out")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "pretokenise" in line]
    assert "damaged: it was finished, but shard-00001.arrow and 1 more files is gone or cut" in line
    assert "interrupted" not in line


def test_a_file_that_can_t_be_read_is_probed_to_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert main(["probe", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("a.parquet") == 1 and "not a readable parquet file" in error and "which column" not in error
    assert "1 more" in error and error.count("\n") == 1


def test_a_file_that_changes_while_it_is_hashed_is_not_told_in_words_of_a_fetch(
    tiny_recipe: MakeRecipe, tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny / "talks", tmp_path / "talks")
    recipe = tiny_recipe(lambda m: m["run"]["locations"].update(talks=str(tmp_path / "talks")))
    context, steps = opened(recipe)
    (tmp_path / "talks" / "a.jsonl").write_text("{}\n")
    with pytest.raises(StepError, match=r"hash talks: 1 of 2 files could not be hashed: a\.jsonl: changed \("):
        runner.run([step for step in steps if step.stage.makes == "files"], context, Serial())
