"""A run that begins from pretrained parts or from another run: what it reads, carries along and refuses."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_shards import CONFIG
from transformers import SiglipVisionConfig, SiglipVisionModel

from schemas.manifest import hash_file
from train import checkpoint
from train.__main__ import main

VISION, LANGUAGE = CONFIG["model"]["vision"], CONFIG["model"]["language"]


@pytest.fixture
def tower(tmp_path):
    """A pretrained tower whose head nobody reads."""
    torch.manual_seed(11)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=16, patch_size=4)).save_pretrained(tmp_path / "tower")
    return tmp_path / "tower"


def newest(run):
    return next(run.glob("step-*"))


def test_a_run_begins_from_a_tower_and_its_checkpoints_keep_what_is_not_read(write_config, tmp_path, tower):
    config = write_config(**{"model.vision": {**VISION, "from": str(tower)}, "data.epochs": 1})
    assert main(["fit", str(config)]) == 0
    carried, there = load_file(newest(tmp_path / "run") / "unread.safetensors"), load_file(tower / "model.safetensors")
    heads = {name.replace("vision_model.", "vision.", 1): w for name, w in there.items() if ".head." in f".{name}"}
    assert {name.removeprefix("vision.") for name in carried} == {name.removeprefix("vision.") for name in heads}
    trained = load_file(newest(tmp_path / "run") / "model-r00000.safetensors")
    assert not set(trained) & set(carried)


def test_a_run_that_goes_on_keeps_what_is_not_read(write_config, tmp_path, tower):
    changes = {"model.vision": {**VISION, "from": str(tower)}, "run.checkpoint_every": 2}
    assert main(["fit", str(write_config(**changes))]) == 0
    whole = newest(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in whole.glob("*.safetensors")}
    assert "unread.safetensors" in before
    from train import config, trainer
    from train.log import Line

    class Stop(Exception):
        pass

    def stop(line: Line) -> None:
        if line.step == 5:
            raise Stop

    path = write_config(**changes, **{"run.out": str(tmp_path / "again")})
    with pytest.raises(Stop):
        trainer.fit(config.load(path), stop)
    assert main(["fit", str(path)]) == 0
    after = {path.name: path.read_bytes() for path in newest(tmp_path / "again").glob("*.safetensors")}
    assert after == before


def test_other_first_weights_make_another_run(write_config, tmp_path, tower, capsys):
    config = write_config(**{"model.vision": {**VISION, "from": str(tower)}, "data.epochs": 1})
    assert main(["fit", str(config)]) == 0
    torch.manual_seed(12)
    theirs = SiglipVisionModel.from_pretrained(tower)
    theirs.post_layernorm.weight.data.add_(1)
    theirs.save_pretrained(tower)
    capsys.readouterr()
    assert main(["fit", str(config)]) == 2
    assert capsys.readouterr().err.startswith("error: weights.model.vision.from: ")


def test_a_moved_tower_is_the_same_and_answers_need_none(write_config, tmp_path, tower, capsys):
    config = write_config(**{"model.vision": {**VISION, "from": str(tower)}, "data.epochs": 1})
    assert main(["fit", str(config)]) == 0
    moved = tower.rename(tmp_path / "elsewhere")
    again = write_config(**{"model.vision": {**VISION, "from": str(moved)}, "data.epochs": 1})
    assert main(["fit", str(again)]) == 0 and "nothing to do" in capsys.readouterr().out
    shutil.rmtree(moved)
    assert main(["generate", str(again), "Say yes."]) == 0


def test_a_second_stage_begins_with_the_weights_of_the_first(write_config, tmp_path, tower, capsys):
    first = {"model.vision": {**VISION, "from": str(tower)}, "data.epochs": 1}
    assert main(["fit", str(write_config(**first))]) == 0
    weights = load_file(newest(tmp_path / "run") / "model-r00000.safetensors")
    # A second stage that learns nothing ends where it began
    still = {"optimiser.learning_rate": 1e-30, "optimiser.matrices": "adamw", "optimiser.weight_decay": 0}
    second = {**still, "data.epochs": 1, "model.from": str(tmp_path / "run"), "run.out": str(tmp_path / "second")}
    assert main(["fit", str(write_config(**second))]) == 0
    ended = newest(tmp_path / "second")
    after = load_file(ended / "model-r00000.safetensors")
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights.items())
    assert (ended / "unread.safetensors").is_file()

    capsys.readouterr()
    other = {**second, "run.out": str(tmp_path / "third"), "model.language": {**LANGUAGE, "rope_theta": 5.0}}
    assert main(["fit", str(write_config(**other))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: model.language.rope_theta: ") and "run.out" not in error
    assert error.endswith("say it as it was made, or have model.from name another folder\n")


def test_a_part_of_a_run_is_taken_without_the_others(write_config, tmp_path, capsys):
    assert main(["fit", str(write_config(**{"data.epochs": 1}))]) == 0
    weights = load_file(newest(tmp_path / "run") / "model-r00000.safetensors")
    still = {"optimiser.learning_rate": 1e-30, "optimiser.matrices": "adamw", "optimiser.weight_decay": 0}
    taken = {"model.vision.from": str(tmp_path / "run"), "model.language.from": str(newest(tmp_path / "run"))}
    second = {**still, **taken, "data.epochs": 1, "model.init_seed": 9, "run.out": str(tmp_path / "second")}
    assert main(["fit", str(write_config(**second))]) == 0
    after = load_file(newest(tmp_path / "second") / "model-r00000.safetensors")
    assert weights.keys() == after.keys()
    for name, tensor in weights.items():
        drawn_alike = tensor.ndim < 2 and name.startswith("projector.")  # norms and biases begin as 1 and 0
        assert torch.equal(tensor, after[name]) != name.startswith("projector.") or drawn_alike, name

    capsys.readouterr()
    other = {**second, "run.out": str(tmp_path / "third"), "model.vision.num_heads": 4}
    assert main(["fit", str(write_config(**other))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: model.vision.num_heads: ") and "run.out" not in error
    assert error.endswith("have model.vision.from name another folder\n")


def test_a_decoder_that_is_taken_has_its_adapters_at_the_same_scale(write_config, tmp_path, capsys):
    keys = {"model.lora": {"rank": 4, "alpha": 12.0}, "data.epochs": 1}
    assert main(["fit", str(write_config(**keys))]) == 0
    second = {**keys, "model.language.from": str(tmp_path / "run"), "run.out": str(tmp_path / "second")}
    assert main(["fit", str(write_config(**second))]) == 0
    capsys.readouterr()
    third = {**second, "model.lora": {"rank": 4, "alpha": 48.0}, "run.out": str(tmp_path / "third")}
    assert main(["fit", str(write_config(**third))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: model.lora.alpha: ") and "was made with 12.0, the config says 48.0" in error
    assert error.endswith("have model.language.from name another folder\n") and error.count("\n") == 1
    # Of a tower they say nothing
    tower = {**third, "model.language.from": None, "model.vision.from": str(tmp_path / "run")}
    assert main(["fit", str(write_config(**tower))]) == 0


@pytest.mark.parametrize("key", ["model.from", "model.vision.from", "model.language.from"])
def test_a_first_stage_that_has_saved_nothing_is_one_line(write_config, tmp_path, capsys, key):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "log.jsonl").touch()
    for place, why in (("first", "has no checkpoint of a run, "), ("nowhere", "is no folder")):
        assert main(["fit", str(write_config(**{key: str(tmp_path / place)}))]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {key}: {tmp_path / place} {why}") and error.count("\n") == 1


@pytest.mark.parametrize(("file", "code"), [("tokenizer.json", 2), ("chat_template.jinja", 0)])
def test_a_checkpoint_may_have_another_template_and_no_other_tokenizer(write_config, tmp_path, capsys, file, code):
    """vqwen3 is laid out in two ways: captions, then turns."""
    assert main(["fit", str(write_config(**{"data.epochs": 1}))]) == 0
    found = newest(tmp_path / "run")
    record = checkpoint.read(found)
    record.facts["fingerprints"]["tokenizer"] = "0" * 64
    (found / "tokenizer" / file).write_text("another")
    record.files[f"tokenizer/{file}"] = hash_file(found / "tokenizer" / file)
    checkpoint.write_record(found, record)
    changes = {"model.from": str(found), "run.out": str(tmp_path / "second"), "data.epochs": 1}
    capsys.readouterr()
    assert main(["fit", str(write_config(**changes))]) == code
    assert ("learnt with the tokenizer 00000000" in capsys.readouterr().err) == bool(code)


def test_a_folder_for_the_whole_and_one_for_a_part_are_refused(write_config, tower, capsys):
    changes = {"model.from": str(tower), "model.vision": {**VISION, "from": str(tower)}}
    assert main(["fit", str(write_config(**changes))]) == 2
    assert "model: from is a whole checkpoint's; leave out vision.from" in capsys.readouterr().err


def test_a_damaged_file_is_one_line(write_config, tower, capsys):
    (tower / "model.safetensors").write_bytes(json.dumps({}).encode())
    assert main(["fit", str(write_config(**{"model.vision": {**VISION, "from": str(tower)}}))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: model.vision.from: ") and error.count("\n") == 1 and "can't be read" in error
