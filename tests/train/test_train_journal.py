"""The files beside the log: cut back and written again on resume; validation changes nothing of what is learnt."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from test_train_fit import fit_until, outcome
from tiny_shards import CONFIG, merged, talks, write_shards

from train import config, trainer
from train.__main__ import main
from train.data import loader
from train.data.collate import Member, collate
from train.data.folders import open_shards
from train.distributed.processes import ALONE
from train.extremes import Windows
from train.metrics import Told


def rows(path: Path, *without: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key not in without} for row in found]


def told(losses: list[float]) -> list[Told]:
    return [Told(Member(f"s{n}", "a", None, 9, 2, 0), 2 * loss) for n, loss in enumerate(losses)]


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> Path:
    texts = [text for talk in talks(60) for turn in talk.turns for text in turn]
    return write_shards(tmp_path_factory.mktemp("held"), talks(11), source="held", texts=texts)


def test_a_window_has_the_five_highest_and_lowest_of_its_steps():
    windows = Windows(3)
    assert windows.add(1, told([5.0, 1.0, 9.0, 2.0])) is None
    assert windows.add(2, told([0.5, 7.0, 7.5, 3.0, 3.5, 4.0, 6.0])) is None
    found = windows.add(3, [*told([8.0]), Told(Member("none", "a", None, 9, 0, 0), 0.0)])
    assert found is not None and (found.first, found.step) == (1, 3)
    assert [(each.loss, each.step) for each in found.highest] == [(9, 1), (8, 3), (7.5, 2), (7, 2), (6, 2)]
    assert [(each.loss, each.step) for each in found.lowest] == [(0.5, 2), (1, 1), (2, 1), (3, 2), (3.5, 2)]
    assert found.highest[0].sample_id == "s2" and found.highest[0].targets == 2
    assert windows.end() is None
    windows.add(4, told([1.0]))
    assert [each.step for each in windows.end().highest] == [4]


def test_a_planted_wrong_label_has_the_highest_loss(write_config, tmp_path):
    """Once the others are learnt. Each sample that is named lies in a step of its window."""
    planted = talks(60)
    planted[8] = replace(planted[8], turns=(("Say yes.", "no"), ("Say no.", "yes")))
    shards = write_shards(tmp_path / "planted", planted)
    trainer.fit(config.load(write_config(**{"data.shards": str(shards), "data.epochs": 6, "run.log_every": 8})))
    found = rows(tmp_path / "run" / "samples.jsonl")
    of = config.load(tmp_path / "config.yaml")
    shards = open_shards(of.data.shards)
    plan = trainer.make_plan(of, shards)
    steps = [
        {sample.sample_id for pack in step.packs for sample in pack.samples}
        for step in loader.steps(shards, plan, plan.position(0))
    ]
    assert found[-1]["step"] == len(steps)
    assert "tests/8" in [row["highest"][0]["sample_id"] for row in found[-5:]]
    for row in found:
        highest, lowest = ([seen["loss"] for seen in row[name]] for name in ("highest", "lowest"))
        assert highest == sorted(highest, reverse=True) and lowest == sorted(lowest) and highest[-1] > lowest[-1]
        for seen in row["highest"] + row["lowest"]:
            assert row["first"] <= seen["step"] <= row["step"]
            assert seen["sample_id"] in steps[seen["step"] - 1]


@pytest.fixture(scope="module")
def undisturbed(shards, held_out, tmp_path_factory) -> Path:
    """A run of 16 steps with everything that is written."""
    out = tmp_path_factory.mktemp("undisturbed")
    trainer.fit(config.load(_written(out, shards, held_out)))
    return out / "run"


def _written(folder: Path, shards: Path, held_out: Path) -> Path:
    keys = {"data.shards": str(shards), "run.out": str(folder / "run"), "run.checkpoint_every": 2, "run.log_every": 3}
    keys |= {"run.validation": str(held_out), "run.validate_every": 5}
    (folder / "config.yaml").write_text(yaml.safe_dump(merged(CONFIG, **keys)), encoding="utf-8")
    return folder / "config.yaml"


@pytest.mark.parametrize("steps", [(1,), (5,), (6,), (7,), (15,), (3, 4, 11)])
def test_a_killed_run_writes_the_same_samples_and_validation(shards, held_out, tmp_path, undisturbed, steps):
    path = _written(tmp_path, shards, held_out)
    for step in steps:
        fit_until(path, step)
    trainer.fit(config.load(path))
    assert outcome(tmp_path / "run") == outcome(undisturbed)
    for name in ("samples.jsonl", "validation.jsonl"):
        assert rows(tmp_path / "run" / name, "seconds") == rows(undisturbed / name, "seconds")
    assert [row["step"] for row in rows(undisturbed / "validation.jsonl")] == [5, 10, 15, 16]
    ends = [row["step"] for row in rows(undisturbed / "samples.jsonl")]
    assert ends == sorted({*range(2, 17, 2), *range(3, 17, 3)})
    firsts = [row["first"] for row in rows(undisturbed / "samples.jsonl")]
    assert firsts == [1, *(end + 1 for end in ends[:-1])]


def test_validation_changes_nothing_of_what_is_learnt(shards, held_out, tmp_path, undisturbed, write_config):
    trainer.fit(config.load(write_config()))
    assert outcome(tmp_path / "run") == outcome(undisturbed)


def test_the_validation_loss_is_that_of_the_models_own_forward(held_out, undisturbed, capsys):
    of = config.load(undisturbed.parent / "config.yaml")
    shards = open_shards(str(held_out))
    trained = open_shards(of.data.shards)
    run = trainer.Run(of, trained, trainer.make_plan(of, trained), ALONE)
    run.model.eval()
    with torch.no_grad():
        losses = torch.cat([run.model(collate([shards.sample(n)], shards.facts)) for n in range(len(shards))])
    last = rows(undisturbed / "validation.jsonl")[-1]
    assert last["loss"] == pytest.approx(losses.mean().item(), rel=1e-5)
    assert last["loss_by_source"] == {"held": last["loss"]} and last["loss_by_language"] == {"en": last["loss"]}
    assert (last["samples"], last["targets"]) == (11, len(losses))
    run.model.train()
    found = run.validation.measure(run.model, run._losses, ALONE, 16)
    assert found.loss == last["loss"] and run.model.training and run.model.vision.training
    assert all(parameter.grad is None for parameter in run.model.parameters())


def test_validation_is_told_in_a_line_and_its_place_is_checked(write_config, shards, held_out, tmp_path, capsys):
    keys = {"run.validation": str(held_out), "run.validate_every": 7}
    assert main(["fit", str(write_config(**keys))]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("validation ")]
    assert [line.split(":")[0] for line in told] == [f"validation after step {n}" for n in (7, 14, 16)]
    assert "(held " in told[0] and "11 samples" in told[0]
    moved = str(shutil.copytree(shards, tmp_path / "moved"))  # the same, wherever they lie
    for same in (moved, {"a": str(held_out), "b": moved}):
        changes = {**keys, "run.validation": same, "run.out": str(tmp_path / "other")}
        assert main(["fit", str(write_config(**changes))]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: run.validation: it has shards of data.shards,") and error.count("\n") == 1
    keys["run.validation"] = str(tmp_path / "nowhere")
    assert main(["fit", str(write_config(**keys, **{"run.out": str(tmp_path / "other")}))]) == 2
    assert capsys.readouterr().err.startswith("error: run.validation: ")
    shutil.rmtree(tmp_path / "run")
    keys["run.validation"] = str(write_shards(tmp_path / "foreign", talks(3)))
    assert main(["fit", str(write_config(**keys))]) == 2
    assert "error: run.validation: its shards are of tokenizer " in capsys.readouterr().err


@pytest.fixture
def curves() -> Iterator[Any]:
    pytest.importorskip("tensorboard")

    def read(folder: Path) -> dict[str, dict[int, float]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(folder)).Reload()
        told = {tag: found.Scalars(tag) for tag in found.Tags()["scalars"]}
        for tag, events in told.items():
            assert len({event.step for event in events}) == len(events), tag
        return {tag: {event.step: event.value for event in events} for tag, events in told.items()}

    yield read


def test_curves_of_tensorboard_have_each_step_once(write_config, held_out, tmp_path, curves):
    keys = {"run.tensorboard": True, "run.checkpoint_every": 4, "run.validation": str(held_out)}
    path = write_config(**keys, **{"run.validate_every": 3})
    for step in (3, 6, 11):
        fit_until(path, step)
    trainer.fit(config.load(path))
    found, lines = curves(tmp_path / "run" / "tensorboard"), rows(tmp_path / "run" / "log.jsonl")
    assert found["step/loss"] == {line["step"]: pytest.approx(line["loss"], rel=1e-6) for line in lines}
    assert found["loss by source/tests"].keys() == found["gradient norm/vision"].keys() == set(range(1, 17))
    assert list(found["validation/loss"]) == list(found["validation by source/held"]) == [3, 6, 9, 12, 15, 16]
    assert "speed/MFU" not in found


def test_without_the_package_of_tensorboard_one_line_says_so(write_config, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["fit", str(write_config(**{"run.tensorboard": True}))]) == 2
    error = capsys.readouterr().err
    assert "pip install tensorboard` or" in error and error.count("\n") == 1
