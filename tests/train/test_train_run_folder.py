"""What goes wrong in a run's folder is one line; the newest whole checkpoint is used; what is not the run's stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.identity import fingerprint
from train import checkpoint, config, run_folder, trainer
from train.__main__ import main

ROOT = Path(__file__).parents[2]
FILES = ("model-r00000.safetensors", "optimiser-r00000.safetensors", "checkpoint.json", "tokenizer/tokenizer.json")


class Killed(Exception):
    """Stands for a power cut after some step."""


@pytest.fixture
def killed(write_config: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """(config, checkpoint) of a run of 8 steps that was killed after step 5; the checkpoint is of step 4."""
    path = write_config(**{"data.epochs": 1})

    def watch(line: object) -> None:
        if line.step == 5:
            raise Killed

    with pytest.raises(Killed):
        trainer.fit(config.load(path), watch)
    return path, tmp_path / "run" / "step-000004"


def flip(path: Path, share: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1
    path.write_bytes(data)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def earlier(folder: Path, step: int) -> Path:
    """A whole checkpoint of the same run that says it is of another step."""
    copy = Path(shutil.copytree(folder, folder.with_name(checkpoint.name(step))))
    checkpoint.write_record(copy, replace(checkpoint.read(folder), step=step, epoch_step=step))
    return copy


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: os.truncate(path, 20)])
def test_a_damaged_checkpoint_is_refused_by_name(killed, capsys, name, damage):
    path, folder = killed
    damage(folder / name)
    before = {file: file.read_bytes() for file in folder.parent.rglob("*") if file.is_file()}
    for command in (["fit", str(path)], ["generate", str(path), "What?"]):
        assert main(command) == 2
        told = one_line(capsys)
        assert f"{folder / name}: damaged (" in told and "move the folder away to begin anew" in told
    assert {file: file.read_bytes() for file in folder.parent.rglob("*") if file.is_file()} == before
    shutil.move(folder, folder.parent.parent)
    assert main(["fit", str(path)]) == 0


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8, 0.99])
def test_every_part_of_the_record_is_proven(killed, capsys, share):
    flip(killed[1] / "checkpoint.json", share)
    assert main(["fit", str(killed[0])]) == 2
    assert "checkpoint.json: damaged (" in one_line(capsys)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"sha256": 1}', '{"a": NaN}', "[" * 100_000, "\ud800"])
def test_what_is_no_record_at_all_is_damaged(tmp_path, text):
    (tmp_path / "checkpoint.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(checkpoint.CheckpointError, match="damaged"):
        checkpoint.read(tmp_path)


def test_a_record_of_another_shape_is_damaged_although_its_hash_is_right(killed, capsys):
    found = json.loads((killed[1] / "checkpoint.json").read_text())
    del found["sha256"]
    found["step"] = "4"
    (killed[1] / "checkpoint.json").write_text(json.dumps(found | {"sha256": fingerprint(found)}))
    assert main(["fit", str(killed[0])]) == 2
    assert "step: got '4'" in one_line(capsys)


@pytest.mark.parametrize("name", FILES)
def test_the_newest_whole_checkpoint_is_used_and_said(killed, capsys, name):
    path, folder = killed
    older = earlier(folder, 3)
    flip(folder / name)
    assert main(["fit", str(path)]) == 0
    found = capsys.readouterr()
    assert f"note: {folder / name}: damaged (" in found.err
    assert f"the newest whole checkpoint is {older.name}" in found.err and f"continuing from {older}" in found.out
    lines = [json.loads(line) for line in (folder.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert json.loads((folder.parent / "summary.json").read_text())["steps"] == 8


def test_a_checkpoint_under_another_name_is_not_taken_for_that_step(killed, capsys):
    path, folder = killed
    folder.rename(folder.with_name("step-000008"))
    assert main(["fit", str(path)]) == 2
    assert "its record is of step-000004" in one_line(capsys)


def test_only_the_runs_own_folders_are_removed(killed, write_config, tmp_path, capsys):
    """A folder of somebody, a file, a link, another run's checkpoint: all of them called like ours."""
    path, folder = killed
    out = folder.parent
    for name in ("step-final", "step-5", "step-000001", ".step-000002", "step-000006", ".step-000008"):
        (out / name).mkdir()
        (out / name / "thesis.txt").write_text(name)
    (out / "step-000003").write_text("a file")
    (out / "step-000007").symlink_to(out / "step-final")
    other = write_config(**{"data.epochs": 1, "data.seed": 9, "run.out": str(tmp_path / "other")})
    trainer.fit(config.load(other))
    write_config(**{"data.epochs": 1})
    shutil.copytree(tmp_path / "other" / "step-000008", out / ".step-000009")
    own = Path(shutil.copytree(folder, out / "step-000002"))
    checkpoint.write_record(own, replace(checkpoint.read(folder), step=2))
    assert main(["fit", str(path)]) == 0
    told = capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir() if "step" in p.name) == [
        ".step-000002",
        ".step-000008.aside-1",
        ".step-000009",
        "step-000001",
        "step-000003",
        "step-000006.aside-1",
        "step-000007",
        "step-000008",
        "step-5",
        "step-final",
    ]
    for name in ("step-final", "step-5", "step-000001", ".step-000002"):
        assert (out / name / "thesis.txt").read_text() == name
    assert (out / "step-000006.aside-1" / "thesis.txt").read_text() == "step-000006"
    assert f"{out / 'step-000006'} is no checkpoint of this run; moved to step-000006.aside-1" in told


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '{"steps": "8"}'])
def test_a_damaged_summary_is_written_again_from_the_log(write_config, tmp_path, capsys, text):
    path, summary = write_config(**{"data.epochs": 1}), tmp_path / "run" / "summary.json"
    assert main(["fit", str(path)]) == 0
    before = summary.read_bytes()
    summary.write_text(text)
    assert main(["fit", str(path)]) == 0
    assert summary.read_bytes() == before
    assert "nothing to do" not in capsys.readouterr().out


def test_the_summary_counts_all_steps_whatever_the_log_has_lost(killed, capsys):
    """Of five steps two are lost, of one the line is double."""
    path, folder = killed
    log = folder.parent / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], lines[3], lines[3], lines[4]]))
    assert main(["fit", str(path)]) == 0
    found = capsys.readouterr()
    assert f"note: {log} lacks 2 of 4 steps" in found.err and "\n8 steps, 60 samples" in found.out
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 4, 5, 6, 7, 8]


LIMITED = """
import resource, sys
from train.__main__ import main
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""


def limited(size: int, *command: str) -> subprocess.CompletedProcess[str]:
    """A process that can write no file larger than so many bytes: a disk that is full."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("size", [100, 20_000])
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(killed, size):
    """In the middle of a line of the log, in the middle of the weights."""
    path, folder = killed
    done = limited(size, "fit", str(path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: {folder.parent}: can't be written (") and "File too large" in done.stderr
    assert run_folder.newest(folder.parent)[0] == folder
    assert not list(folder.parent.glob(".step-*"))
    assert main(["fit", str(path)]) == 0
    lines = [json.loads(line) for line in (folder.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))


def test_a_folder_that_cant_be_one_is_refused_in_one_line(write_config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        assert main(["fit", str(write_config(**{"run.out": str(out)}))]) == 2
        assert f"run.out: {out} can't be written" in one_line(capsys)
