"""Checkpoints are written beside the steps and hold what was then; those that stay are the ones that were asked for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from train import checkpoint, run_folder, tensor_files
from train.checkpoint import Record
from train.distributed.processes import ALONE
from train.run_folder import Keep, OutputError
from train.saving import Saver

EVENT = 20.0  # seconds after which a thread that should go on is stuck


def learnt(model: nn.Module, optimiser: AdamW) -> None:
    model.zero_grad()
    model(torch.ones(2, 4)).square().sum().backward()
    optimiser.step()


@pytest.fixture
def made():
    model = nn.Linear(4, 4)
    optimiser = AdamW(model.parameters(), lr=0.1)
    learnt(model, optimiser)
    return model, optimiser


def record(step: int) -> Record:
    return Record({"data": 1}, {}, {}, step, 0, step)


def saved(out: Path, steps: list[int], keep: Keep, made) -> list[int]:
    """The checkpoints that are left after saving at these steps."""
    for step in steps:
        run_folder.save(out, record(step), checkpoint.parts(made[0], made[1:]), {}, keep=keep)
    return sorted(int(path.name.removeprefix("step-")) for path in out.iterdir())


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Keep(), [60]),
        (Keep(3), [40, 50, 60]),
        (Keep(1, 20), [20, 40, 60]),
        (Keep(2, 40), [40, 50, 60]),
        (Keep(9), [10, 20, 30, 40, 50, 60]),
        (Keep(2, 7), [50, 60]),
    ],
)
def test_the_newest_and_the_multiples_stay(tmp_path, made, keep, left):
    assert saved(tmp_path, [10, 20, 30, 40, 50, 60], keep, made) == left


def test_what_is_after_the_newest_is_of_a_run_that_was_given_up(tmp_path, made):
    saved(tmp_path, [10, 20, 30], Keep(9), made)
    assert saved(tmp_path, [15], Keep(2, 30), made) == [10, 15]


def test_a_checkpoint_holds_what_was_when_it_was_begun(tmp_path, made):
    model, optimiser = made
    parts = checkpoint.parts(model, [optimiser])
    weight, moment = (x.detach().clone() for x in (model.weight, optimiser.state[model.weight]["exp_avg"]))
    learnt(model, optimiser)
    folder = run_folder.save(tmp_path, record(1), parts, {})
    assert not torch.equal(model.weight, weight)
    checkpoint.load(folder, model)
    checkpoint.load_optimisers(folder, model, [optimiser])
    assert torch.equal(model.weight, weight) and torch.equal(optimiser.state[model.weight]["exp_avg"], moment)


@pytest.fixture
def held(monkeypatch) -> threading.Event:
    """Files are written once this is set."""
    go, write = threading.Event(), tensor_files.write

    def waiting(*arguments) -> None:
        assert go.wait(EVENT)
        write(*arguments)

    monkeypatch.setattr(tensor_files, "write", waiting)
    return go


def test_steps_go_on_while_it_is_written_and_the_next_waits(tmp_path, made, held):
    with Saver(tmp_path, {}, ALONE, Keep(2)) as saver, ThreadPoolExecutor(1) as pool:
        saver.begin(record(1), checkpoint.parts(made[0], made[1:]))
        saver.check()
        assert saver.folder is None and run_folder.newest(tmp_path) is None
        second = pool.submit(saver.begin, record(2), checkpoint.parts(made[0], made[1:]))
        with pytest.raises(TimeoutError):
            second.result(0.2)
        held.set()
        second.result(EVENT)
        assert saver.folder.name == "step-000001"
    assert saver.folder.name == "step-000002" and run_folder.newest(tmp_path)[1].step == 2


def test_a_write_that_fails_is_told_by_the_next_step_and_at_the_end(tmp_path, made, monkeypatch):
    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_files, "write", full)
    saver = Saver(tmp_path, {}, ALONE, Keep())
    saver.begin(record(1), checkpoint.parts(made[0], made[1:]))
    saver._pool.shutdown()
    with pytest.raises(OutputError, match="No space left on device"):
        saver.check()
    with pytest.raises(OutputError, match="No space left"), Saver(tmp_path, {}, ALONE, Keep()) as saver:
        saver.begin(record(1), checkpoint.parts(made[0], made[1:]))
    assert list(tmp_path.iterdir()) == []
