"""`run.evaluate`: scores while a model is trained, and not a bit of it is changed by them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from made_benchmarks import coloured, row, write_benchmark
from test_train_fit import fit_until, outcome
from test_train_journal import rows
from tiny_shards import COLOURS

from schemas.identity import fingerprint
from schemas.strict import RecipeError
from train import config, run_folder, trainer
from train.__main__ import main
from train.data.folders import open_shards
from train.distributed.processes import ALONE
from train.evaluate import benchmark, runner
from train.evaluate.in_memory import copied
from train.inference import Answerer


@pytest.fixture
def benchmarks(tmp_path):
    asked = [coloured("Which colour?", colour) for colour in COLOURS]
    asked += [row("Say yes.", ["yes"]), row("?", ["red"], images=[("broken.png", b"no picture")])]
    write_benchmark(tmp_path / "data", "colours", asked)
    write_benchmark(tmp_path / "data", "talk", [row("Say yes.", ["yes"]), row("Say no.", ["no"])])
    return tmp_path / "data"


def keys(benchmarks, out, **more):
    return {"run.evaluate": {"benchmarks": [str(benchmarks)], "every": 6} | more, "run.out": str(out)}


def test_a_run_is_scored_on_the_way_and_learns_the_same(write_config, benchmarks, tmp_path, capsys):
    trainer.fit(config.load(write_config(**{"run.out": str(tmp_path / "plain")})))
    capsys.readouterr()
    trainer.fit(config.load(write_config(**keys(benchmarks, tmp_path / "scored"))))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("evaluation ")]
    assert outcome(tmp_path / "scored") == outcome(tmp_path / "plain")
    found = rows(tmp_path / "scored" / "evaluation.jsonl")
    assert [each["step"] for each in found] == [6, 12, 16] and len(told) == 3
    assert all(each["questions"] == {"colours": 5, "talk": 2} and each["failed"] == {"colours": 1} for each in found)
    assert told[0].startswith(f"evaluation after step 6: colours {found[0]['scores']['colours']:.1%} of 5, talk ")
    summary = json.loads((tmp_path / "scored/evaluation/step-000016/talk/summary.json").read_text())
    assert summary["score"] == found[-1]["scores"]["talk"]
    _, record = run_folder.newest(tmp_path / "scored")
    assert summary["model"] == {"name": "scored/step-000016", "content": fingerprint(record.identity)}


def test_the_answers_are_those_of_the_checkpoint(write_config, benchmarks, tmp_path):
    trainer.fit(config.load(write_config(**keys(benchmarks, tmp_path / "run"), **{"data.epochs": 6})))
    folder, _ = run_folder.newest(tmp_path / "run")
    answerer, one = Answerer.open(folder), benchmark.find([benchmarks], ["colours"])[0]
    asked = [(each.messages[:1], each.images) for each in one.questions()]
    written = rows(tmp_path / "run/evaluation" / folder.name / "colours/answers.jsonl")
    assert [each["answer"] for each in written[:4]] == [answerer.answer(*each) for each in asked[:4]]
    assert "image_unreadable" in written[4]["error"]


@pytest.mark.parametrize("steps", [(5,), (6,), (11, 15)])
def test_a_killed_run_has_the_same_scores(write_config, benchmarks, tmp_path, steps):
    trainer.fit(config.load(write_config(**keys(benchmarks, tmp_path / "run", every=5))))
    whole = rows(tmp_path / "run/evaluation.jsonl", "seconds")
    path = write_config(**keys(benchmarks, tmp_path / "killed", every=5))
    for step in steps:
        fit_until(path, step)
    trainer.fit(config.load(path))
    assert rows(tmp_path / "killed/evaluation.jsonl", "seconds") == whole
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "run")


def test_a_limit_and_the_curves_of_tensorboard(write_config, benchmarks, tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    more = {"run.tensorboard": True, "data.epochs": None, "data.steps": 6}
    trainer.fit(config.load(write_config(**keys(benchmarks, tmp_path / "run", limit=1), **more)))
    (line,) = rows(tmp_path / "run/evaluation.jsonl")
    assert line["questions"] == {"colours": 1, "talk": 1}
    curves = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    (found,) = curves.Scalars("evaluation/talk")
    assert (found.step, found.value) == (6, line["scores"]["talk"])


def test_a_copy_shares_nothing_with_the_model(write_config):
    of = config.load(write_config(**{"model.lora": {"rank": 2, "alpha": 4}}))
    shards = open_shards(of.data.shards)
    run = trainer.Run(of, shards, trainer.make_plan(of, shards), ALONE)
    made = copied(run.model, of, shards.facts)
    theirs, ours = dict(run.model.named_parameters()), dict(made.named_parameters())
    assert theirs.keys() == ours.keys() and run.model.training and not made.training
    for name, parameter in theirs.items():
        assert parameter.equal(ours[name]) and parameter.data_ptr() != ours[name].data_ptr()


def test_what_can_not_be_evaluated_is_told_before_the_first_step(write_config, benchmarks, tmp_path, capsys):
    assert main(["fit", str(write_config(**keys(tmp_path / "no", tmp_path / "run")))]) == 2
    assert "no: no such folder" in capsys.readouterr().err
    judged = write_benchmark(tmp_path / "judged", "essay", [row("Say.", ["yes"])], "judge", 1)
    path = write_config(**keys(judged, tmp_path / "run"))
    assert main(["fit", str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: run.evaluate: essay has no score without a judge; ")
    of = config.load(write_config(**keys(benchmarks, tmp_path / "run")))
    shards = open_shards(of.data.shards)
    run = trainer.Run(of, shards, trainer.make_plan(of, shards), ALONE)
    run.world = replace(ALONE, count=2)
    with pytest.raises(RecipeError, match=r"run\.evaluate: it is for one process, and here are 2"):
        run._evaluation()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"benchmarks": ["x"]}, "run.evaluate.every: missing"),
        ({"benchmarks": [], "every": 1}, "benchmarks is empty, wanted the path of a folder"),
        ({"benchmarks": "x", "every": 0}, "every is 0, wanted at least 1"),
        ({"benchmarks": "x", "every": 1, "limit": 0}, "limit is 0, wanted at least 1"),
    ],
)
def test_a_wrong_key_is_one_line(write_config, capsys, value, message):
    assert main(["fit", str(write_config(**{"run.evaluate": value}))]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_answers_of_another_run_are_not_taken(write_config, benchmarks, tmp_path):
    """Of the same name and step, and of other weights."""
    trainer.fit(config.load(write_config(**keys(benchmarks, tmp_path / "run"))))
    one = benchmark.find([benchmarks], ["talk"])[0]
    other = {"name": "run/step-000016", "content": "other"}
    with pytest.raises(RecipeError, match="answers of another model"):
        runner.evaluate(lambda: pytest.fail("asked"), other, one, tmp_path / "run/evaluation/step-000016")
