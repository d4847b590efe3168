"""A wrong config is one line that names the key, exit code 2, and no traceback."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import yaml
from tiny_shards import CONFIG

from train import config
from train.__main__ import main
from train.optim.schedule import learning_rate


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.batchsize": 8}, r"data\.batchsize: unknown key; did you mean 'batch_size'\?"),
        (
            {"model.vision.depth": 2},
            r"model\.vision\.depth: unknown key; known keys: feature_layers, from, hidden_size",
        ),
        ({"data.seed": "3"}, r"data\.seed: got '3' \(str\), wanted a whole number"),
        ({"run.threads": True}, r"run\.threads: got True \(bool\), wanted a whole number"),
        ({"optimiser.schedule": "cosin"}, r"optimiser\.schedule: got 'cosin' .*did you mean 'cosine'\?"),
        ({"optimiser.learning_rate": 0}, r"optimiser: learning_rate is 0.0, wanted more than 0"),
        ({"model.language.num_heads": 5}, r"model\.language: hidden_size is 32, wanted a multiple of num_heads = 5"),
        ({"data.batch_size": 0}, r"data: batch_size is 0, wanted at least 1"),
        ({"optimiser.weight_decay": math.nan}, r"optimiser\.weight_decay: got '\.nan' \(str\), wanted a number"),
        ({"optimiser.clip": -1}, r"optimiser: clip is -1.0, wanted more than 0"),
        ({"optimiser.warmup_steps": -1}, r"optimiser: warmup_steps is -1, wanted at least 0"),
        ({"model.language.num_kv_heads": 3}, r"model\.language: num_heads is 4, wanted a multiple of num_kv_heads = 3"),
        ({"model.vision.num_heads": 3}, r"model\.vision: hidden_size is 16, wanted a multiple of num_heads = 3"),
        ({"run.threads": 0}, r"run: threads is 0, wanted at least 1"),
        ({"data.max_tokens_per_pack": 20}, r"data\.max_tokens_per_pack: sample \d+ has \d+ tokens"),
        ({"data.shards": "nowhere"}, r"data\.shards: nowhere is no folder; run"),
        ({"data.shards": "train"}, r"data\.shards: train holds no finished shards"),
        ({"data.shards": ""}, r"data: shards is '', wanted the path of a folder"),
        ({"run.out": "a\x7fb"}, r"run: out is 'a\\x7fb', wanted the path of a folder"),
        ({"run.out": "~nobody-of-that-name/x"}, r"run: out is '~nobody.*there is no such home folder"),
        ({"data.seed": -1}, r"data: seed is -1, wanted at least 0"),
        ({"data.batch_size": 2**60}, r"data: batch_size is \d+, wanted at most 9,007,199,254,740,992"),
        ({"optimiser.warmup_steps": 10**400}, r"optimiser: warmup_steps is 1000.*, wanted at most"),
        ({"model.init_seed": 2**64}, r"model: init_seed is \d+, wanted at most"),
        ({"model.language.num_layers": 10**9}, r"model\.language: num_layers is 1000000000, wanted at most 1,000"),
        ({"model.language.hidden_size": 12}, r"model\.language: hidden_size / num_heads is 3, wanted an even number"),
        (
            {"model.vision.hidden_size": 2**20, "model.vision.intermediate_size": 2**20},
            r"model: 6,597,293,\d\d\d,\d\d\d parameters, 73,730.5 GiB to train them here \(processes: 1\), and this "
            r"machine has .* GiB; lower",
        ),
        ({"data.steps": 5}, r"data: has epochs and steps of epochs, steps, schedule; wanted exactly one of them"),
        ({"data.epochs": None}, r"data: has none of epochs, steps, schedule; wanted exactly one of them"),
        (
            {"data.batch_tokens": 500},
            r"data: has batch_size and batch_tokens of batch_size, batch_tokens; wanted exact",
        ),
        ({"data.group_by": "lenght"}, r"data\.group_by: got 'lenght' .*did you mean 'length'\?"),
        ({"data.group_by": "length", "data.mixture": {}}, r"data: group_by goes with batch_size, and with neither"),
        ({"data.mixture": {"weight": {}}}, r"data\.mixture\.weight: unknown key; did you mean 'weights'\?"),
        ({"data.mixture": {"weights": {}, "repeats": {}}}, r"data\.mixture: it has weights and repeats; keep one"),
        ({"data.mixture": {"weights": {"tests": -1}}}, r"data\.mixture: weights\.tests is -1\.0, wanted at least 0"),
        ({"data.mixture": {"caps": 0}}, r"data\.mixture: caps holds 0\.0, wanted more than 0"),
        (
            {"data.mixture": {"weights": {}}},
            r"data\.mixture\.weights: the source 'tests' .* has none; name it",
        ),
        (
            {"data.mixture": {"repeats": {"test": 1}}},
            r"data\.mixture\.repeats\.test: unknown key; did you mean 'tests'",
        ),
        ({"data.mixture": {"weights": {"tests": 0}}}, r"data\.mixture: every source is left out; give one a weight"),
        (
            {"data.mixture": {"weights": {"tests": 1}, "caps": 1}},
            r"data\.mixture\.caps: the run draws 120 .* allow 60;",
        ),
        ({"data.shards": []}, r"data: shards is empty, wanted the path of a folder"),
        ({"data.shards": {"a": ""}}, r"data: shards\.a is '', wanted the path of a folder"),
        ({"data.shards": ["nowhere"]}, r"data\.shards: nowhere is no folder; run"),
        ({"run.threads": 10**6}, r"run: threads is 1000000, wanted at most 1,024"),
        ({"run.keep_last": 0}, r"run: keep_last is 0, wanted at least 1"),
        ({"run.keep_every": 0}, r"run: keep_every is 0, wanted at least 1"),
        ({"run.device": "gpu"}, r"run\.device: got 'gpu' \(str\), wanted one of auto, cpu, cuda"),
        ({"run.validation": "x"}, r"run: it has validation and no validate_every; give both or neither"),
        ({"run.validate_every": 5}, r"run: it has validate_every and no validation; give both or neither"),
        ({"run.validation": [], "run.validate_every": 5}, r"run: validation is empty, wanted the path of a folder"),
        ({"optimiser.weigh": "token"}, r"optimiser\.weigh: got 'token' .*did you mean 'tokens'\?"),
        ({"optimiser.warmup": 0.1}, r"optimiser: has warmup_steps and warmup of warmup_steps, warmup; wanted exactly"),
        ({"optimiser.warmup_steps": None}, r"optimiser: has none of warmup_steps, warmup; wanted exactly one"),
        ({"optimiser.warmup_steps": None, "optimiser.warmup": 3}, r"optimiser: warmup is 3.0, wanted at most 1"),
        ({"optimiser.floor": 1.5}, r"optimiser: floor is 1.5, wanted at most 1"),
        ({"optimiser.decay": 0, "optimiser.schedule": "wsd"}, r"optimiser: decay is 0.0, wanted more than 0"),
        ({"optimiser.decay": 0.2}, r"optimiser: decay is 0.2, and a cosine has none; take it out, or take schedule: w"),
        ({"optimiser.eps": 0}, r"optimiser: eps is 0.0, wanted more than 0"),
        ({"optimiser.betas": [0.9, 1]}, r"optimiser: betas holds 1.0, wanted at least 0 and less than 1"),
        ({"optimiser.betas": [0.9]}, r"optimiser\.betas: got \[0.9\] \(list\), wanted a list of 2"),
        ({"optimiser.parts": {"visoin": "frozen"}}, r"optimiser\.parts\.visoin: unknown key; did you mean 'vision'\?"),
        ({"optimiser.parts": {"vision": "froze"}}, r"optimiser\.parts\.vision: got 'froze' .*did you mean 'frozen'\?"),
        (
            {"optimiser.parts": {"vision": {"learning_rate": 0}}},
            r"optimiser\.parts\.vision: learning_rate is 0.0, want",
        ),
        (
            {"optimiser.parts": {"vision": {"warmup_steps": 1, "warmup": 0.5}}},
            r"optimiser\.parts\.vision: has warmup_steps and warmup; keep one of them",
        ),
        (
            {"optimiser.parts": dict.fromkeys(config.PARTS, "frozen")},
            r"optimiser: parts are all frozen, and nothing would learn; leave one of them out",
        ),
        ({"optimiser.compute": "bf16"}, r"optimiser\.compute: got 'bf16' .*did you mean 'bfloat16'\?"),
        (
            {"optimiser.states": "bfloat16"},
            r"optimiser: states is bfloat16, compute float32 and matrices muon; states bfloat16 goes with compute bfl",
        ),
        ({"model.lora": {"rank": 0, "alpha": 1}}, r"model\.lora: rank is 0, wanted at least 1"),
        ({"model.lora": {"rank": 2, "alpha": 0}}, r"model\.lora: alpha is 0.0, wanted more than 0"),
        (
            {"model.lora": {"rank": 2, "alpha": 1, "dropout": 1}},
            r"model\.lora: dropout is 1.0, wanted at least 0 and less",
        ),
        ({"model.lora": {"rank": 2, "alpha": 1, "part": "x"}}, r"model\.lora\.part: unknown key"),
        (
            {"model.lora": {"rank": 2, "alpha": 4}, "optimiser.parts": {"language": "frozen"}},
            r"model\.lora: adapts language, which optimiser\.parts freezes; take one of them out",
        ),
        ({"data": [1]}, r"data: got \[1\] \(list\), wanted a mapping"),
        ({"model.vision": None}, r"model\.vision: got None \(NoneType\), wanted a mapping"),
        ({"data.epochs": 1.5}, r"data\.epochs: got 1\.5 \(float\), wanted a whole number"),
        ({"optimiser.learning_rate": math.inf}, r"optimiser\.learning_rate: got '\.inf' \(str\), wanted a number"),
    ],
)
def test_a_wrong_key_or_value_is_one_line(write_config, capsys, changes, message):
    assert main(["fit", str(write_config(**changes))]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.match(f"error: {message}", error)


def test_a_missing_key_is_named(write_config, capsys):
    path = write_config()
    content = yaml.safe_load(path.read_text())
    del content["optimiser"]["clip"]
    path.write_text(yaml.safe_dump(content))
    assert main(["fit", str(path)]) == 2
    assert "optimiser.clip: missing" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["data: [", "- 1", "", "data: 5", "data: sources", "data: {}\ndata: {}"])
def test_a_file_that_is_no_config_is_one_line(tmp_path, capsys, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main(["fit", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert main(["fit", str(tmp_path / "no.yaml")]) == 2
    assert "no.yaml: no such file" in capsys.readouterr().err


def test_a_recipe_of_the_pipeline_is_sent_there(capsys):
    assert main(["fit", "configs/quickstart.yaml"]) == 2
    assert "is a recipe of the pipeline; give it to `python -m pipeline run`" in capsys.readouterr().err


def test_a_number_is_what_a_person_writes(write_config):
    path = write_config()
    text = path.read_text()
    path.write_text(text.replace(f"learning_rate: {CONFIG['optimiser']['learning_rate']}", "learning_rate: 1e-3"))
    assert path.read_text() != text
    assert config.load(path).optimiser.learning_rate == 0.001


def test_the_shipped_config_is_valid():
    assert config.load("configs/quickstart_train.yaml").run.threads == 2


def examples() -> list[dict]:
    """What the docstring shows: a whole config, parts of a model, and the optional keys of `data`."""
    parts = re.split("Of a part in|Also in `data`", config.__doc__ or "")
    return [yaml.safe_load("\n".join(x for x in part.splitlines() if x.startswith("    "))) for part in parts]


def test_the_example_in_the_docstring_is_a_config(tmp_path):
    """The documented keys are the keys: the docstring's example, as YAML, builds a Config."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(examples()[0]))
    assert config.load(path).data.batch_size > 0


def test_the_parts_in_the_docstring_are_parts(write_config):
    found = config.load(write_config(**{"optimiser.parts": examples()[1]["parts"]})).optimiser
    assert found.parts["vision"] == "frozen" and found.of("projector").learning_rate == 2e-5


@pytest.mark.parametrize("left_out", ["weights", "repeats"])
def test_the_optional_keys_in_the_docstring_are_keys(write_config, left_out):
    keys = examples()[2]
    del keys["mixture"][left_out], keys["group_by"]
    found = config.load(write_config(**{f"data.{key}": value for key, value in keys.items()} | {"data.epochs": None}))
    assert found.data.mixture.caps == 4 and [phase.batches for phase in found.data.schedule] == ["single", "mixed"]


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_the_learning_rate_rises_then_never_rises_again_and_ends_near_zero(write_config, schedule):
    of = dataclasses.replace(config.load(write_config()).optimiser, schedule=schedule, warmup_steps=10)
    rates = [learning_rate(of, step, 100) for step in range(100)]
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == of.learning_rate and 0 <= rates[-1] < 0.1 * of.learning_rate
