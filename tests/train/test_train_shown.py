"""What a person reads while and after training: means and rates that say what they are of, tables that fit."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from statistics import fmean

import pytest

from train import log
from train.__main__ import main
from train.log import Line

ROOT = Path(__file__).parents[2]
COUNTS = {"steps": 5, "samples": 160, "tokens": 2500, "target_tokens": 45}


def line(step: int, loss: float = 1.0, seconds: float = 1.0, started: bool = False) -> Line:
    return Line(step, 0, loss, 1.0, 0.1, 32, 500, 9, 1, 1, seconds, started)


def test_rates_leave_the_first_step_of_every_start_out():
    lines = [line(1, seconds=60, started=True), line(2), line(3), line(4, seconds=90, started=True), line(5)]
    summary = log.summarise(lines, COUNTS, parameters=1, checkpoint="step-000005")
    assert summary.samples_per_second == 32 and summary.seconds == 153
    assert "32 samples/s  500 tokens/s  left 0:05" in log.describe(lines[:3], total=8)
    assert "16 samples/s" in log.describe([line(1, seconds=2, started=True)], total=8)


@pytest.mark.parametrize(("steps", "span"), [(1, 1), (2, 1), (7, 3), (16, 8), (40, 20), (1000, 20)])
def test_the_two_losses_are_means_that_share_no_step(steps, span):
    lines = [line(n, loss=float(steps - n)) for n in range(1, steps + 1)]
    summary = log.summarise(lines, {**COUNTS, "steps": steps}, parameters=1, checkpoint="")
    assert summary.first_loss == fmean(one.loss for one in lines[:span])
    assert summary.last_loss == fmean(one.loss for one in lines[steps - span :])
    assert summary.steps_of_loss == span


def test_the_last_line_says_what_its_losses_are(write_config, tmp_path, capsys):
    assert main(["fit", str(write_config())]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    found = re.search(r"loss ([\d.]+) -> ([\d.]+) \(mean of the first and of the last 8 steps\); (.*)$", told)
    assert found, told
    losses = [json.loads(text)["loss"] for text in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 16
    assert found[1] == f"{fmean(losses[:8]):.4f}" and found[2] == f"{fmean(losses[8:]):.4f}"
    assert Path(found[3]).is_dir()


@pytest.mark.parametrize("columns", [50, 120])
def test_what_is_shown_is_as_wide_as_the_terminal(columns):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-c", "from train import log; log.console().rule()"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment | {"TERM": "xterm"}, stdin=theirs, stdout=theirs)
    os.close(theirs)
    printed = b""
    try:
        while block := os.read(ours, 4096):
            printed += block
    except OSError:
        pass  # the other end is closed: all is read
    os.close(ours)
    assert process.wait() == 0
    assert re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).strip() == "─" * columns
