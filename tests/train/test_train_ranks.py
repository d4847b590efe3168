"""Several processes train as one does: the same gradients and losses, killed at any step, continued by any number."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rank_trials
import tiny_models
import torch
from rank_trials import DEALT, FROZEN
from ranks import Ended, launch
from safetensors.torch import load_file

from train import config, run_folder, trainer
from train.__main__ import main
from train.inference.opened import opened

ROOT = Path(__file__).parents[2]
ADAMW = {"optimiser.matrices": "adamw"}
OTHERS = [name for name in tiny_models.MODELS if name != "llava"]


def losses(out: Path) -> list[float]:
    """Of every step, each logged once."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def files(out: Path) -> dict[str, bytes]:
    """The newest checkpoint, byte for byte."""
    found = run_folder.newest(out)
    assert found is not None
    return {path.name: path.read_bytes() for path in found[0].iterdir() if path.is_file()}


def fitted(path: Path, count: int, folder: Path) -> Ended:
    ended = launch(count, folder, rank_trials.fit, path)
    assert ended.codes == [0] * count, ended.err
    return ended


# ---- as one process


@pytest.mark.parametrize(
    ("names", "frozen", "dealt"),
    [
        (["llava"], ["nothing frozen", "all but projector frozen"], list(DEALT)),
        pytest.param(["llava"], list(FROZEN), list(DEALT), marks=pytest.mark.slow),
        pytest.param(OTHERS, list(FROZEN)[:2], list(DEALT)[:2], marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_one_process(names, frozen, dealt, tmp_path):
    """Also where a rank has text alone, or nothing; and none waits for ever."""
    ended = launch(3, tmp_path / "ranks", rank_trials.gradients, names, frozen, dealt, tmp_path / "found.json")
    assert ended.codes == [0, 0, 0], ended.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == len(names) * len(frozen) * len(dealt)
    assert {case: errors for case, errors in found.items() if max(errors) > 1e-5} == {}


BFLOAT = {"optimiser.compute": "bfloat16"}


@pytest.mark.parametrize(
    ("count", "batch_size", "more", "apart"),
    [
        (2, 8, {"optimiser.parts": {"vision": "frozen"}}, 1e-5),
        (2, 8, {"run.ranks_per_copy": 1}, 1e-5),
        (3, 2, {}, 1e-5),  # with fewer samples than ranks one of them computes an empty pack
        (2, 8, {**BFLOAT, "optimiser.parts": {"language": "frozen"}}, 1e-2),
        pytest.param(2, 8, {"run.recompute": True}, 1e-5, marks=pytest.mark.slow),
        pytest.param(4, 8, {"run.ranks_per_copy": 2}, 1e-5, marks=pytest.mark.slow),
        pytest.param(
            2, 8, {**BFLOAT, "optimiser.states": "bfloat16", "run.ranks_per_copy": 1}, 3e-2, marks=pytest.mark.slow
        ),
        pytest.param(2, 8, {"model.lora": {"rank": 3, "alpha": 8}}, 1e-5, marks=pytest.mark.slow),
        pytest.param(2, 8, {**BFLOAT, "optimiser.states": "bfloat16"}, 3e-2, marks=pytest.mark.slow),
    ],
)
def test_losses_are_those_of_one_process(count, batch_size, more, apart, write_config, tmp_path):
    changes = {**ADAMW, **more, "data.batch_size": batch_size, "data.epochs": None, "data.steps": 8}
    trainer.fit(config.load(write_config(**{**changes, "run.ranks_per_copy": None})))
    ended = fitted(write_config(**changes, **{"run.out": str(tmp_path / "many")}), count, tmp_path / "ranks")
    assert losses(tmp_path / "many") == pytest.approx(losses(tmp_path / "run"), rel=apart)
    names = ("samples", "tokens", "targets", "tiles", "learning_rate", "epoch")
    counts = [
        [[json.loads(line)[name] for name in names] for line in (tmp_path / out / "log.jsonl").read_text().splitlines()]
        for out in ("run", "many")
    ]
    assert counts[0] == counts[1]
    assert "step 8/8" in ended.out[0] and ended.out[1:] == [""] * (count - 1) and ended.err == [""] * count


def test_a_group_of_one_has_the_same_gradients(tmp_path):
    ended = launch(1, tmp_path / "ranks", rank_trials.gradients_of_one, ["jina"], tmp_path / "found.json")
    assert ended.codes == [0], ended.err
    assert all(max(errors) <= 1e-5 for errors in json.loads((tmp_path / "found.json").read_text()).values())


@pytest.mark.slow
def test_packs_in_bfloat16_are_added_in_float32(tmp_path):
    """A power of two of equal packs has the gradient of one, to the bit."""
    ended = launch(1, tmp_path / "ranks", rank_trials.gradients_in_bfloat16, tmp_path / "found.json")
    assert ended.codes == [0], ended.err
    there, differ = json.loads((tmp_path / "found.json").read_text())
    assert there > 1000 and differ == 0


@pytest.mark.slow
def test_torchrun_starts_it(write_config, tmp_path):
    """Two real processes, an error and its one line among torchrun's own."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "train", "fit"]
    found = {}
    for matrices in ("adamw", "muon"):
        path = write_config(**{"optimiser.matrices": matrices, "data.epochs": 1})
        found[matrices] = subprocess.run([*torchrun, str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found["adamw"].returncode == 0 and found["adamw"].stdout.count("step 8/8") == 1
    assert found["muon"].returncode == 1 and found["muon"].stderr.count("error: rank") == 1


# ---- killed, and continued


def killed_everywhere(write_config: Callable[..., Path], tmp_path: Path, steps: list[int]) -> None:
    changes = {**ADAMW, "data.epochs": 1}
    whole = write_config(**changes, **{"run.out": str(tmp_path / "whole")})
    fitted(whole, 2, tmp_path / "ranks")
    for step in steps:
        path = write_config(**changes, **{"run.out": str(tmp_path / f"killed-{step}")})
        ended = launch(2, tmp_path / "ranks", rank_trials.fit_until_killed, path, step)
        assert ended.codes == [-9, -9]
        fitted(path, 2, tmp_path / "ranks")
        assert losses(tmp_path / f"killed-{step}") == losses(tmp_path / "whole")
        assert files(tmp_path / f"killed-{step}") == files(tmp_path / "whole")


@pytest.mark.slow
def test_a_job_killed_as_a_whole_continues_bit_for_bit(write_config, tmp_path):
    killed_everywhere(write_config, tmp_path, [5])


@pytest.mark.slow
def test_a_job_killed_while_it_saves_continues_bit_for_bit(write_config, tmp_path):
    changes = {**ADAMW, "data.epochs": 1}
    fitted(write_config(**changes, **{"run.out": str(tmp_path / "whole")}), 2, tmp_path / "ranks")
    path = write_config(**changes)
    ended = launch(2, tmp_path / "ranks", rank_trials.fit_until_killed_while_saving, path, 4)
    assert ended.codes == [-9, -9]
    assert len(list((tmp_path / "run" / ".step-000004").glob("*.safetensors"))) == 2
    assert run_folder.newest(tmp_path / "run")[1].step == 2
    fitted(path, 2, tmp_path / "ranks")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole") and files(tmp_path / "run") == files(
        tmp_path / "whole"
    )


@pytest.mark.slow
def test_a_job_killed_at_any_step_continues_bit_for_bit(write_config, tmp_path):
    killed_everywhere(write_config, tmp_path, [*range(1, 9)])


@pytest.mark.parametrize(
    ("before", "after"), [(2, 1), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((2, 3), (1, 2)))]
)
def test_another_number_of_processes_continues(before, after, write_config, tmp_path):
    changes = {**ADAMW, "data.epochs": 1}
    trainer.fit(config.load(write_config(**changes, **{"run.out": str(tmp_path / "whole")})))
    path = write_config(**changes)
    assert launch(before, tmp_path / "ranks", rank_trials.fit_until_stopped, path, 5).codes == [130] * before
    _, record = run_folder.newest(tmp_path / "run")
    assert sum("model-r" in name for name in record.files) == before and record.step == 4
    fitted(path, after, tmp_path / "ranks")
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [((4, 2), (2, 1)), ((2, 1), (3, None)), ((2, None), (4, 2))])
def test_another_number_of_copies_continues(before, after, write_config, tmp_path):
    """(processes, those of one copy); what the copies hold is written once."""
    changes = {**ADAMW, "data.epochs": 1}
    trainer.fit(config.load(write_config(**changes, **{"run.out": str(tmp_path / "whole")})))
    (count, each), (later, then) = before, after
    path = write_config(**changes, **{"run.ranks_per_copy": each})
    assert launch(count, tmp_path / "ranks", rank_trials.fit_until_stopped, path, 5).codes == [130] * count
    folder, record = run_folder.newest(tmp_path / "run")
    parts = [load_file(folder / name) for name in record.files if name.startswith("model-r")]
    assert record.step == 4 and [bool(part) for part in parts] == [n < (each or count) for n in range(count)]
    fitted(write_config(**changes, **{"run.ranks_per_copy": then}), later, tmp_path / "ranks")
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_answers_and_is_first_weights(write_config, tmp_path):
    changes = {**ADAMW, "data.epochs": 1}
    path = write_config(**changes)
    fitted(path, 2, tmp_path / "ranks")
    folder, _ = run_folder.newest(tmp_path / "run")
    parts = [load_file(folder / f"model-r0000{rank}.safetensors") for rank in (0, 1)]
    model = opened(folder).model
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, torch.cat([part[name] for part in parts if name in part])), name
    assert main(["generate", str(path), "Say yes."]) == 0
    second = {**changes, "model.from": str(tmp_path / "run")}
    fitted(write_config(**second, **{"run.out": str(tmp_path / "second")}), 2, tmp_path / "ranks")
    trainer.fit(config.load(write_config(**second, **{"run.out": str(tmp_path / "alone")})))
    first = [losses(tmp_path / out)[0] for out in ("second", "alone", "run")]
    assert first[0] == pytest.approx(first[1], rel=1e-5) and first[0] < 0.7 * first[2]


# ---- what is refused, in one line


def told_once(ended: Ended, message: str) -> None:
    assert all(ended.codes), ended
    lines = [line for text in ended.err for line in text.splitlines()]
    assert len(lines) == 1 and message in lines[0], ended.err


def test_what_all_refuse_is_said_once(write_config, tmp_path):
    told_once(launch(2, tmp_path / "ranks", rank_trials.fit, write_config()), "rank 0: optimiser.matrices: muon")
    path = write_config(**ADAMW, **{"run.ranks_per_copy": 3})
    told_once(launch(2, tmp_path / "ranks", rank_trials.fit, path), "rank 0: run.ranks_per_copy: 3, and 2 processes")
    path = write_config(**ADAMW)
    launch(2, tmp_path / "ranks", rank_trials.fit_until_stopped, path, 3)
    path = write_config(**ADAMW, **{"data.max_tokens_per_pack": 121})
    told_once(launch(2, tmp_path / "ranks", rank_trials.fit, path), "data.max_tokens_per_pack: ")
    path = write_config(**ADAMW, **{"data.sead": 1})
    told_once(launch(2, tmp_path / "ranks", rank_trials.fit, path), "sead")


def test_what_one_rank_cant_read_ends_all_and_is_said_by_it(write_config, tmp_path):
    """A sample that is damaged in memory on the second rank alone."""
    ended = launch(2, tmp_path / "ranks", rank_trials.fit_with_a_bad_sample, write_config(**ADAMW), 1)
    told_once(ended, "error: rank 1: tests/")
    assert "step 1/16" in ended.out[0] or ended.out[0] == ""


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_disk_that_is_full_for_one_rank_ends_all_and_leaves_the_older_checkpoint(rank, write_config, tmp_path):
    path = write_config(**ADAMW)
    ended = launch(2, tmp_path / "ranks", rank_trials.fit_on_a_full_disk, path, rank, 4)
    told_once(ended, f"error: rank {rank}: {tmp_path / 'run'}: can't be written (No space left on device")
    assert [folder.name for folder in (tmp_path / "run").iterdir() if "step" in folder.name] == ["step-000002"]
    fitted(path, 2, tmp_path / "ranks")


def test_a_rank_that_is_killed_alone_ends_the_others_in_one_line(write_config, tmp_path):
    ended = launch(2, tmp_path / "ranks", rank_trials.fit_until_one_is_killed, write_config(**ADAMW), 1, 3)
    assert ended.codes == [1, -9]
    assert ended.err[0].startswith("error: rank 0: another rank ended (") and ended.err[0].count("\n") == 1
