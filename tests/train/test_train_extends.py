"""A config that begins from another: what it takes, what it replaces, and what is refused in one line."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import yaml
from tiny_shards import CONFIG, merged

from schemas.strict import RecipeError
from train import config
from train.__main__ import main


@pytest.fixture
def second(write_config, tmp_path):
    """Write a config that extends the first one, in a folder below; returns its path."""
    write_config(**{"model.vision.from": "towers/x", "optimiser.parts": {"vision": {"learning_rate": 0.5}}})

    def write(text: Any) -> Any:
        (tmp_path / "stages").mkdir(exist_ok=True)
        path = tmp_path / "stages" / "second.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump({"extends": "../config.yaml", **text}))
        return path

    return write


def test_keys_are_replaced_one_by_one_and_all_else_is_the_first_stage_s(second, tmp_path):
    first = config.load(tmp_path / "config.yaml")
    changes = {
        "data": {"epochs": None, "steps": 7},
        "model": {"from": "out/one", "vision": {"from": None}},
        "optimiser": {"parts": {"projector": {"floor": 0.5}}},
    }
    found, wanted = asdict(config.load(second(changes))), asdict(first)
    wanted["data"] |= {"epochs": None, "steps": 7}
    wanted["model"]["from_"], wanted["model"]["vision"]["from_"] = "out/one", None
    parts = {"learning_rate": None, "warmup_steps": None, "warmup": None, "floor": 0.5, "weight_decay": None}
    wanted["optimiser"]["parts"] = {"projector": parts}  # as a whole: it is no section
    assert found == wanted


def test_null_takes_a_key_out_whatever_its_default_is(write_config, tmp_path):
    """None, a number, a pair, a mapping, a choice; and one that neither file has."""
    plain = config.load(write_config(**{"data.epochs": 1}))
    given = {"run.keep_every": 4, "run.recompute": True, "run.keep_last": 3, "optimiser.betas": [0.5, 0.6]}
    given |= {"optimiser.parts": {"vision": "frozen"}, "optimiser.weigh": "sqrt", "model.language.rope_theta": 5.0}
    write_config(**{**given, "data.epochs": 1, "model.lora": {"rank": 2, "alpha": 4}})
    second = {
        "extends": "config.yaml",
        "model": {"lora": None, "language": {"rope_theta": None}},
        "optimiser": {"betas": None, "parts": None, "weigh": None, "eps": None},
        "run": {"keep_every": None, "recompute": None, "keep_last": None},
    }
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    assert config.load(tmp_path / "second.yaml") == plain


def test_a_key_that_has_no_default_is_missing_when_taken_out(second):
    with pytest.raises(RecipeError, match=r"optimiser(\.schedule)?: .*schedule|optimiser\.schedule: "):
        config.load(second({"optimiser": {"schedule": None}}))


def test_nothing_but_the_name_is_the_same_config(second, tmp_path):
    assert config.load(second({})) == config.load(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: nowhere.yaml", "extends: .*nowhere.yaml: no such file; paths are relative"),
        ("extends: [a]", r"extends: got \['a'\], wanted the path of a file"),
        ("extends: ../third.yaml", "third.yaml: extends another file; one level is all there is"),
        ("{extends: ../config.yaml, model: 5}", "model: got 5"),
        ("{extends: ../config.yaml, data: {epoch: 5}}", "data.epoch: unknown key; did you mean 'epochs'"),
        ("{extends: ../config.yaml, model: {from: x}}", "from is a whole checkpoint's; leave out vision.from"),
    ],
)
def test_what_cannot_be_extended_is_one_line(second, tmp_path, capsys, text, message):
    (tmp_path / "third.yaml").write_text(yaml.safe_dump(merged(CONFIG, **{"extends": "config.yaml"})))
    assert main(["plan", str(second(text))]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(RecipeError, match=message):
        config.load(tmp_path / "stages" / "second.yaml")
