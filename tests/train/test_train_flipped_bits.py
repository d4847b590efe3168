"""A wrong bit in a shard is refused by name in one line: no crash, no traceback, no sample that is not as written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_shards import talks, write_shards

TRIALS = Path(__file__).with_name("flip_trials.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty samples in two shards of three batches."""
    return write_shards(tmp_path_factory.mktemp("small"), talks(20), per_shard=10)


@pytest.fixture
def trials(small: Path, write_config: Callable[..., Path], tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    scratch = tmp_path / "scratch"
    changes = {"data.shards": str(scratch / "shards"), "run.out": str(scratch / "run"), "data.epochs": 1}
    changes |= {"data.batch_size": 20, "data.max_tokens_per_pack": 500, "optimiser.warmup_steps": 0}
    config = write_config(**changes)

    def run(first: int, count: int, *rest: str) -> list[dict[str, Any]]:
        command = [sys.executable, str(TRIALS), str(config), str(small), str(scratch), str(first), str(count), *rest]
        done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 0, f"the process died after {len(found)} trials of {count}: {done.stderr[-2000:]}"
        assert len(found) == count
        return found

    return run


def test_every_flipped_bit_is_refused_in_one_line_that_names_the_shard(trials):
    for trial in trials(0, 90):
        assert trial["code"] == 1, trial
        assert trial["stderr"].startswith("error: ") and trial["stderr"].count("\n") == 1, trial
        assert trial["file"] in trial["stderr"] and "delete this file and run the pipeline again" in trial["stderr"]


@pytest.mark.slow
def test_a_flipped_bit_whose_hashes_are_right_crashes_nothing(trials):
    """Shards by another hand: what can't be read is one line, and the rest is what that hand wrote."""
    for trial in trials(1000, 90, "rehash"):
        assert trial["code"] in {0, 1}, trial
        assert trial["stderr"].count("\n") == trial["code"], trial
