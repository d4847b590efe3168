"""Fit: killed anywhere it ends with the same bits; another config is refused; finished means finished."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tiny_shards import CONFIG, merged, talks, write_shards
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

from schemas import strict
from train import checkpoint, config, run_folder, trainer
from train.__main__ import main
from train.config import Config
from train.log import Line

ROOT = Path(__file__).parents[2]


class Killed(Exception):
    """Stands for a power cut after some step."""


def fit_until(path: Path, step: int) -> None:
    """Train and die right after a step, saved or not."""

    def watch(line: Line) -> None:
        if line.step == step:
            raise Killed

    with pytest.raises(Killed):
        trainer.fit(config.load(path), watch)


def outcome(out: Path) -> tuple[dict[str, bytes], list[tuple[int, int, float]]]:
    """All bytes of the checkpoint that bear on the future, and the log without its times."""
    found = run_folder.newest(out)
    assert found is not None
    folder, _ = found
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return files, [(line["step"], line["epoch"], line["loss"]) for line in lines]


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """The outcome of a run that nothing disturbed: 16 steps in two epochs."""
    out = tmp_path_factory.mktemp("whole")
    trainer.fit(strict.build(Config, merged(CONFIG, **{"data.shards": str(shards), "run.out": str(out)})))
    return outcome(out)


@pytest.mark.parametrize("steps", [(1,), (2,), (7,), (8,), (15,), (3, 4, 11)])
def test_a_killed_run_continues_bit_for_bit(write_config, tmp_path, whole, steps):
    """Before the first save, on a save, between saves, at the end of an epoch, and several times."""
    path = write_config()
    for step in steps:
        fit_until(path, step)
    trainer.fit(config.load(path))
    assert outcome(tmp_path / "run") == whole


@pytest.mark.parametrize(
    "run", [{"run.checkpoint_every": 100, "run.log_every": 1}, {"run.threads": 3}, {"run.recompute": True}]
)
def test_how_it_is_run_changes_nothing(write_config, tmp_path, whole, run):
    """Saving, showing, and the number of threads: the same bits."""
    trainer.fit(config.load(write_config(**run)))
    assert outcome(tmp_path / "run") == whole


def test_layers_are_recomputed_where_the_config_says_so(write_config, monkeypatch):
    calls = []
    mlp = Qwen3MLP.forward
    monkeypatch.setattr(Qwen3MLP, "forward", lambda *given: calls.append(1) or mlp(*given))
    for again in (False, True):
        calls.append(0)
        fit_until(write_config(**{"run.recompute": again}), 1)
    first, second = "".join(map(str, calls))[1:].split("0")
    assert len(second) == 2 * len(first) > 0


def test_a_process_killed_by_the_system_continues_bit_for_bit(write_config, tmp_path, whole):
    path, out = write_config(), tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-m", "train", "fit", str(path)], cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("step-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    trainer.fit(config.load(path))
    assert outcome(out) == whole


def test_what_a_kill_leaves_half_written_is_ignored(write_config, tmp_path, whole):
    path, out = write_config(), tmp_path / "run"
    fit_until(path, 5)
    folder, record = run_folder.newest(out)
    checkpoint.write_record(Path(shutil.copytree(folder, out / ".step-000006")), replace(record, step=6, files={}))
    (out / ".step-000006" / "model-r00000.safetensors").write_bytes(b"half")
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 6, "epo')
    trainer.fit(config.load(path))
    assert outcome(out) == whole
    assert [folder.name for folder in out.iterdir() if "step" in folder.name] == ["step-000016"]


def test_a_finished_run_says_so_and_does_nothing(write_config, tmp_path, capsys):
    path = write_config(**{"data.epochs": 1})
    first = trainer.fit(config.load(path))
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    capsys.readouterr()
    assert main(["fit", str(path)]) == 0
    assert "all 8 steps are done; nothing to do" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")} == before
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == asdict(first)


@pytest.mark.parametrize(
    ("key", "value"), [("optimiser.learning_rate", 0.5), ("data.seed", 4), ("model.language.num_layers", 1)]
)
def test_a_checkpoint_of_another_config_is_refused_naming_the_key(write_config, tmp_path, capsys, key, value):
    fit_until(write_config(), 3)
    before = outcome(tmp_path / "run")
    assert main(["fit", str(write_config(**{key: value}))]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {key}: ") and f"the config says {value}" in error and error.count("\n") == 1
    assert outcome(tmp_path / "run") == before


def test_a_checkpoint_of_other_shards_is_refused_although_the_path_is_the_same(shards, write_config, tmp_path, capsys):
    path = write_config(**{"data.shards": str(tmp_path / "shards")})
    shutil.copytree(shards, tmp_path / "shards")
    fit_until(path, 3)
    shutil.rmtree(tmp_path / "shards")
    write_shards(tmp_path / "shards", talks(61))
    assert main(["fit", str(path)]) == 2
    assert "error: data.shards: " in capsys.readouterr().err


def test_moved_shards_are_the_same_shards(shards, write_config, tmp_path, whole):
    fit_until(write_config(), 5)
    moved = shutil.copytree(shards, tmp_path / "elsewhere")
    trainer.fit(config.load(write_config(**{"data.shards": str(moved)})))
    assert outcome(tmp_path / "run")[1] == whole[1]


def test_a_loss_that_is_no_number_stops_the_run_with_one_line(write_config, capsys):
    assert main(["fit", str(write_config(**{"optimiser.learning_rate": 1e30, "optimiser.warmup_steps": 0}))]) == 1
    error = capsys.readouterr().err
    assert "lower optimiser.learning_rate" in error and error.count("\n") == 1


def test_an_interrupt_is_130_and_resumable(write_config, tmp_path, capsys, monkeypatch, whole):
    path, step = write_config(), trainer.Run.advance

    def interrupted(run, *arguments):
        if run.step == 5:
            raise KeyboardInterrupt
        return step(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Run, "advance", interrupted)
        assert main(["fit", str(path)]) == 130
    assert "continues from the newest checkpoint" in capsys.readouterr().err
    assert main(["fit", str(path)]) == 0
    assert outcome(tmp_path / "run") == whole


def test_packing_does_not_change_what_is_learnt(write_config, tmp_path):
    """Many packs a step or one: the same losses and gradients, up to the order of sums (which later steps amplify)."""
    runs = []
    for cap, out in ((80, "narrow"), (10_000, "wide")):
        lines: list[Line] = []
        changes = {"data.max_tokens_per_pack": cap, "data.epochs": 1, "run.out": str(tmp_path / out)}
        trainer.fit(config.load(write_config(**changes)), lines.append)
        runs.append(lines[:3])
    for narrow, wide in zip(*runs, strict=True):
        assert narrow.packs > wide.packs == 1
        assert narrow.loss == pytest.approx(wide.loss, rel=1e-4)
        assert narrow.gradient_norm == pytest.approx(wide.gradient_norm, rel=1e-3)


def test_the_log_counts_what_the_shards_hold(write_config, tmp_path, shards):
    summary = trainer.fit(config.load(write_config(**{"data.epochs": 1})))
    index = pq.read_table(shards / "index.parquet")
    assert summary.samples == index.num_rows
    assert summary.tokens == sum(index["num_tokens"].to_pylist())
    assert summary.target_tokens == sum(index["num_target_tokens"].to_pylist())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    sums = [sum(line[name] for line in lines) for name in ("samples", "tokens", "targets")]
    assert sums == [summary.samples, summary.tokens, summary.target_tokens] and len(lines) == summary.steps


def test_progress_is_plain_lines_where_there_is_no_terminal(write_config, capsys):
    assert main(["fit", str(write_config(**{"data.epochs": 1}))]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["3/8", "6/8", "8/8"]
    assert all(word in lines[0] for word in ("loss", "samples/s", "tokens/s", "left"))


def test_two_runs_in_one_folder_are_refused(write_config, tmp_path, capsys):
    path, out = write_config(), tmp_path / "run"
    fit_until(path, 5)
    with run_folder.lock(out):
        before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.rglob("*") if file.is_file()}
        assert main(["fit", str(path)]) == 2
        after = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.rglob("*") if file.is_file()}
    error = capsys.readouterr().err
    assert "another run is training here" in error and error.count("\n") == 1
    assert after == before
    assert main(["fit", str(path)]) == 0


def test_a_resumed_run_says_where_it_continues(write_config, tmp_path, capsys):
    path = write_config()
    fit_until(path, 5)
    resumed = run_folder.newest(tmp_path / "run")[1].step
    assert main(["fit", str(path)]) == 0
    assert "continuing from" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["started"]] == [1, resumed + 1]


@pytest.mark.parametrize("arguments", [["fitt"], ["fit"], ["generate", "CONFIG", "--limit", "0", "x"]])
def test_a_wrong_command_line_is_one_line(arguments, write_config, capsys):
    assert main([str(write_config()) if a == "CONFIG" else a for a in arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
