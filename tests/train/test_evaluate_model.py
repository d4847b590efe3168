"""Evaluation of a real model: it has learnt the colours, and its scores say so."""

from __future__ import annotations

import json

import pytest
import yaml
from made_benchmarks import coloured, row, write_benchmark
from safetensors.torch import save_file
from tiny_shards import COLOURS, CONFIG, SIZES, merged, png
from torch import zeros

from train import config, trainer
from train.__main__ import main
from train.commands import evaluate as command
from train.inference.conversation import Answer
from train.inference.identity import identity

LEARN = {"data.epochs": 12, "data.max_tokens_per_pack": 400, "run.checkpoint_every": 1000}


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    """(config path, run folder) of a model trained for a few seconds."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "config.yaml"
    changes = {"data.shards": str(shards), "run.out": str(folder / "run"), **LEARN}
    path.write_text(yaml.safe_dump(merged(CONFIG, **changes)))
    trainer.fit(config.load(path))
    return path, folder / "run"


def benchmarks(folder):
    colours = [coloured("Which colour?", colour, size=size) for size in (*SIZES, (20, 24)) for colour in COLOURS]
    broken = row("Which colour?", ["red"], category="broken", images=[("red.png", b"no picture")])
    write_benchmark(folder, "colours", [*colours, broken, row("Say yes.", ["yes"], category="text")])
    write_benchmark(folder, "yes", [row("Say yes.", ["yes"]), row("Say no.", ["no"])], "yes_no")


def test_a_model_is_scored_on_ingested_benchmarks(trained, tmp_path, capsys):
    path, out = trained
    benchmarks(tmp_path)
    assert main(["evaluate", str(path), "--benchmarks", str(tmp_path)]) == 0
    (checkpoint,) = out.glob("step-*")
    place = out / f"evaluation-{checkpoint.name}"
    found = {each["benchmark"]: each for each in json.loads((place / "results.json").read_text())["benchmarks"]}
    assert found["colours"]["by_category"]["colour"]["score"] == 1 and found["colours"]["score"] == 16 / 17
    assert found["colours"]["failed"] == 1 and "image_unreadable" in next(iter(found["colours"]["errors"]))
    assert found["yes"]["figures"] | {"f1": 0} == {
        "accuracy": 0.5,
        "precision": 0.5,
        "recall": 1,
        "f1": 0,
        "yes_ratio": 1,
    }  # it never saw the second question alone
    assert found["yes"]["model"] == identity(checkpoint)
    assert found["yes"]["model"]["name"] == f"run/{checkpoint.name}"
    assert (place / "results.html").read_text().count("<img ") == 15
    assert "1 failed and count as wrong; 1 x " in capsys.readouterr().out


def test_a_model_is_told_by_its_files(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(3 << 20) + (b"1" if name == "c" else b"0"))
    a, b, c = (identity(tmp_path / name)["content"] for name in "abc")
    assert a == b != c


def test_a_model_that_learnt_its_projector_alone_is_another(tmp_path):
    found = set()
    for learnt in (0.0, 1.0):
        weights = {"language": zeros(1 << 19), "projector": zeros(1 << 10), "vision": zeros(1 << 19)}
        weights["projector"][-1] = learnt
        save_file(weights, tmp_path / "model.safetensors")
        found.add(identity(tmp_path)["content"])
    assert len(found) == 2
    # Whatever is called so, it has an identity
    for header in (
        b"",
        b"\xff" * 20,
        b"\x02\0\0\0\0\0\0\0[]",
        b'\x22\0\0\0\0\0\0\0{"a": {"data_offsets": [-9, "b"]}}  ',
    ):
        (tmp_path / "model.safetensors").write_bytes(header)
        found.add(identity(tmp_path)["content"])
    assert len(found) == 6


@pytest.mark.parametrize(
    ("name", "same"), [("README.md", True), ("pytorch_model.bin", False), ("vocab.tiktoken", False)]
)
def test_a_card_may_be_edited_and_nothing_else(tmp_path, name, same):
    before = identity(tmp_path)["content"]
    (tmp_path / name).write_text("other")
    assert (identity(tmp_path)["content"] == before) is same


def test_of_many_pictures_the_page_has_the_first(tmp_path, monkeypatch):
    rows = [row("Which?", ["red"], images=[("many", png("red", (8, 8)))] * 6)]
    write_benchmark(tmp_path / "data", "many", rows, in_parts=1)
    monkeypatch.setattr(command, "_opened", lambda place, *_: Echo())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    words = [
        "evaluate",
        str(tmp_path / "model"),
        "--benchmarks",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    text = (tmp_path / "out" / "results.html").read_text()
    assert text.count("<img ") == 4 and "and 2 more" in text


class Echo:
    def answers(self, conversations, sampling=None):
        for number, said in enumerate(conversations):
            yield number, Answer(f"{len(said.images)} pictures")
