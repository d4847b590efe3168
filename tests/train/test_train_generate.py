"""Generate: a model that has learnt the colours answers questions about pictures it was not trained on."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_shards import png

from schemas.manifest import hash_file
from train import checkpoint, run_folder
from train.__main__ import main

LEARN = {"data.epochs": 12, "data.max_tokens_per_pack": 400, "run.checkpoint_every": 1000}


@pytest.fixture
def trained(learnt):
    """(config path, run folder) of a model trained for a few seconds."""
    return learnt.with_name("config.yaml"), learnt


def test_one_question_about_one_image(trained, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(png("green", (16, 16)))
    assert main(["generate", str(trained[0]), "--image", str(tmp_path / "a.png"), "Which colour?"]) == 0
    assert capsys.readouterr().out == "green\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to answer: "),
        (["What?", "--chat"], "QUESTION is one question; "),
        (["--chat", "--image", "a.png"], "--image goes with QUESTION; "),
        (["--conversations", "a.jsonl"], "--out and --conversations go together; "),
        (["What?", "--out", "b.jsonl"], "--out and --conversations go together; "),
    ],
)
def test_a_wrong_command_line_is_one_line(capsys, words, message):
    assert main(["generate", "model", *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {message}") and told.count("\n") == 1


def test_a_file_that_is_no_image_is_one_line(trained, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    assert main(["generate", str(trained[0]), "--image", str(tmp_path / "a.png"), "Which?"]) == 1
    told = capsys.readouterr().err
    assert re.match(r"error: image 1: image_unreadable", told) and told.count("\n") == 1


def test_without_a_checkpoint_it_says_what_to_run(write_config, capsys):
    assert main(["generate", str(write_config()), "Say yes."]) == 2
    assert "no checkpoint; run `python -m train fit`" in capsys.readouterr().err


def test_a_config_of_another_model_is_refused(trained, write_config, capsys):
    path = write_config(**{**LEARN, "run.out": str(trained[1]), "model.language.num_layers": 1})
    assert main(["generate", str(path), "Say yes."]) == 2
    assert "error: model.language.num_layers: " in capsys.readouterr().err


def test_a_tokenizer_that_is_not_the_models_is_refused(trained, tmp_path, capsys):
    """The hashes are right, as of a checkpoint that somebody has put together."""
    path, out = trained
    copy = Path(shutil.copytree(out, tmp_path / "run"))
    config = tmp_path / "config.yaml"
    config.write_text(path.read_text().replace(str(out), str(copy)))
    folder, record = run_folder.newest(copy)
    file = folder / "tokenizer" / "tokenizer.json"
    known = json.loads(file.read_text())
    known["added_tokens"].append({**known["added_tokens"][-1], "id": record.facts["vocab_size"], "content": "<more>"})
    file.write_text(json.dumps(known))
    files = record.files | {"tokenizer/tokenizer.json": hash_file(file)}
    checkpoint.write_record(folder, replace(record, files=files))
    assert main(["generate", str(config), "Which colour?"]) == 2
    told = capsys.readouterr().err
    assert "tokenizer: is another tokenizer, " in told and told.count("\n") == 1
