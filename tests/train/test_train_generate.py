"""Generate: a model that has learnt the colours answers questions about pictures it was not trained on."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_shards import COLOURS, SIZES, png

from schemas.manifest import hash_file
from train import checkpoint, run_folder
from train.__main__ import main

LEARN = {"data.epochs": 12, "data.max_tokens_per_pack": 400, "run.checkpoint_every": 1000}


@pytest.fixture
def trained(learnt):
    """(config path, run folder) of a model trained for a few seconds."""
    return learnt.with_name("config.yaml"), learnt


@pytest.fixture
def questions(tmp_path):
    """A questions file beside its pictures; half of the sizes were never trained on."""
    rows = []
    for colour in COLOURS:
        for size in (*SIZES[:2], (20, 24), (30, 17)):
            name = f"{colour}-{size[0]}.png"
            (tmp_path / name).write_bytes(png(colour, size))
            rows.append({"image": name, "question": "Which colour?", "answer": colour, "kind": "colour", "note": 7})
    rows.append({"image": None, "question": "Say yes.", "answer": "yes", "kind": "text"})
    pair = ["red-16.png", "blue-16.png"]
    rows.append({"image": pair, "question": "Which colour is second?", "answer": "blue", "kind": "pair"})
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_are_right_and_written_with_their_score(trained, questions, capsys):
    path, out = trained
    assert main(["generate", str(path), "--questions", str(questions)]) == 0
    printed = capsys.readouterr().out
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    summary = json.loads((out / "predictions.summary.json").read_text())
    assert all(row["correct"] == (row["prediction"] == row["answer"]) for row in predictions)
    assert summary["exact_match"] == sum(row["correct"] for row in predictions) / len(predictions)
    assert summary["by_kind"]["colour"] == 1.0 and summary["by_kind"]["text"] == 1.0
    assert predictions[0]["note"] == 7
    assert "Which colour?" in printed and "exact match" in printed


def test_one_question_about_one_image(trained, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(png("green", (16, 16)))
    assert main(["generate", str(trained[0]), "--image", str(tmp_path / "a.png"), "Which colour?"]) == 0
    assert capsys.readouterr().out == "green\n"


def test_limit_takes_the_first_questions(trained, questions, tmp_path):
    out = tmp_path / "few" / "p.jsonl"
    assert main(["generate", str(trained[0]), "--questions", str(questions), "--limit", "2", "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":1: not JSON"),
        ('{"image": null}', ':1: got .* wanted an object with a text "question"'),
        ('{"image": 3, "question": "a"}', ":1: image is 3, wanted a path"),
        ('{"question": "a", "answer": 4}', ":1: answer is 4, wanted text"),
        ('{"image": "no.png", "question": "a"}', "no.png: can't be read"),
        ("", "no questions"),
    ],
)
def test_a_bad_question_is_one_line(trained, tmp_path, capsys, line, message):
    path = tmp_path / "questions.jsonl"
    path.write_text(line + "\n")
    assert main(["generate", str(trained[0]), "--questions", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error)


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
