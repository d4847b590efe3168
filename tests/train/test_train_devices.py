"""GPUs that are too few or too small are said in one line. What is tested here needs none: torch is told of some."""

from __future__ import annotations

import pytest
import torch

from schemas.strict import RecipeError
from train import trainer
from train.__main__ import main
from train.distributed import processes


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As on a machine with two GPUs; which of them torch was told to take."""
    found: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    return found


def started(monkeypatch: pytest.MonkeyPatch, rank: int, here: int) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_each_process_has_its_own_gpu(wanted, chosen, monkeypatch):
    assert processes.device(wanted) == torch.device("cuda", 0)
    started(monkeypatch, 1, 2)
    assert processes.device(wanted) == torch.device("cuda", 1) and chosen == [0, 1]


@pytest.mark.parametrize("rank", [0, 2])
def test_more_processes_than_gpus_are_refused_by_all_of_them(rank, chosen, monkeypatch):
    started(monkeypatch, rank, 3)
    with pytest.raises(
        RecipeError, match=r"^run\.device: auto, and this machine has 3 processes and GPUs for 2; start 2"
    ):
        processes.device("auto")
    assert not chosen


def test_on_the_cpu_any_number_may_train_and_no_gpu_is_touched(chosen, monkeypatch):
    started(monkeypatch, 7, 8)
    assert processes.device("cpu") == torch.device("cpu") and not chosen


def test_a_full_gpu_is_one_line_that_says_what_to_change(write_config, monkeypatch, capsys):
    def full(*_):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 3 GiB of\nwhich 9 is."
        )

    monkeypatch.setattr(trainer.sharded, "clip", full)
    assert main(["fit", str(write_config())]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "(CUDA out of memory. Tried to allocate 2.00 GiB); " in told
    assert "data.max_tokens_per_pack" in told and "run.recompute" in told
