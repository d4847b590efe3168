"""`python -m train bench`: made-up samples are of the lengths that are said, floors are those computed elsewhere, and
what is measured is what the trainer did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas import yaml_file
from schemas.strict import RecipeError
from stages.tiles.table import recorded
from train import config
from train.__main__ import main
from train.bench import corpora, measure, shards, sizes
from train.bench.corpora import CORPORA
from train.data.collate import collate
from train.data.folders import open_shards

CONFIGS = Path(__file__).parents[2] / "benchmarks" / "gpu"
H200 = 139 * 2**30
GPU = torch.cuda.is_available()


def told(capsys, name: str, *options: str) -> dict:
    assert main(["bench", str(CONFIGS / f"{name}.yaml"), "--json", *options]) == 0
    found: dict = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("name", "floor", "teraflops", "trained", "parameters"),
    [
        ("vqwen3-stage1", 84.2, 9.38, 9_180_160, 4.33e9),
        ("vqwen3-stage2", 56.9, 13.87, 9_180_160 + 264_241_152, 4.6e9),
        ("llm-jp-4-vl", 8.2, 95.8, None, 9.04e9),
        ("jina-vlm", 30.4, 26.0, None, 2.45e9),
    ],
)
def test_floors_in_the_real_sizes(capsys, name, floor, teraflops, trained, parameters):
    """Samples a second at 790 TFLOP/s, and FLOPs of a sample, as worked out by hand from the published sizes."""
    found = told(capsys, name, "--meta")
    assert found["floor"]["samples_per_second"] == pytest.approx(floor, rel=0.02)
    assert found["flops_per_sample"] == pytest.approx(teraflops * 1e12, rel=0.02)
    assert found["flops_per_step"] == pytest.approx(found["flops_per_sample"] * found["samples_per_step"])
    assert sum(found["flops_per_sample_by_part"].values()) == pytest.approx(found["flops_per_sample"])
    every = sum(value for part, value in found["parameters"].items() if part != "trained")
    assert every == pytest.approx(parameters, rel=0.02)
    assert found["parameters"]["trained"] == (trained or every)
    assert found["estimated_bytes"]["total"] < H200 and "measured" not in found
    assert found["device"] == "meta" and found["sizes"] == "config" and found["commit"] and found["command"]


@pytest.mark.parametrize(
    ("name", "tokens", "text", "targets", "tiles", "squares"),
    [
        ("vqwen3-stage1", 595, 19, 19, 1.0, 1.0),
        ("vqwen3-stage2", 787, 246, 120, 0.939, 1.15),
        ("llm-jp-4-vl", 1796, 514, 400, 5.0, None),
        ("jina-vlm", 1354, 300, 120, 7.0, None),
    ],
)
def test_samples_have_the_means_that_are_said(name, tokens, text, targets, tiles, squares):
    drawn = corpora.draw(CORPORA[name], 50_000)
    for column, mean in ((drawn.tokens, tokens), (drawn.text, text), (drawn.targets, targets), (drawn.tiles, tiles)):
        assert column.mean() == pytest.approx(mean, rel=0.045)
    assert drawn.tokens.max() <= CORPORA[name].longest and (drawn.targets < drawn.tokens).all()
    if squares:
        assert np.square(drawn.tokens).mean() / drawn.tokens.mean() ** 2 == pytest.approx(squares, rel=0.03)
    again = corpora.draw(CORPORA[name], 50_000)
    assert all(np.array_equal(getattr(drawn, field), getattr(again, field)) for field in vars(drawn))


@pytest.mark.parametrize("name", CORPORA)
def test_the_trainer_reads_what_is_made_up(tmp_path, name):
    """Every row by its proofs, of the lengths that were drawn, with pictures where there are some."""
    corpus = CORPORA[name]
    drawn, facts = corpora.draw(corpus, 70), corpus.facts(corpus.vocab_size)
    shards.write(tmp_path, corpus, drawn, facts)
    opened = open_shards(str(tmp_path))
    assert opened.facts == facts and len(opened) == 70
    for number in (0, 1, 2, 63, 64, 69):
        pack = collate([opened.sample(number)], opened.facts)
        found = (pack.sample_ends[-1], pack.num_targets, len(pack.tiles))
        assert found == (drawn.tokens[number], drawn.targets[number], drawn.tiles[number])
        assert int(pack.labels.max()) < corpus.vocab_size - 128  # jina's head is so much shorter than its table
        assert not len(pack.tiles) or pack.tiles.float().std() > 10


@pytest.mark.skipif(GPU, reason="a GPU runs the real sizes")
def test_steps_are_timed_after_the_warm_up(capsys):
    found = told(capsys, "vqwen3-stage2", "--steps", "2", "--warm-up", "1", "--samples", "4")
    at = found["measured"]
    assert found["sizes"] == "tiny" and found["lora"]["rank"] == 8 and found["parts"]["vision"] == "frozen"
    assert at["steps"] == len(at["seconds_of_steps"]) == len(at["losses"]) == 2 and at["samples"] == 8
    assert at["samples_per_second"] == pytest.approx(8 / at["seconds"])
    assert sum(at["seconds_of_steps"]) == pytest.approx(at["seconds"], rel=0.2)
    assert 0 <= at["data_wait"] < 0.5 and at["peak_bytes"] > 2**20
    assert at["losses"][0] == pytest.approx(np.log(1000), rel=0.1)
    assert at["mfu"] is at["share_of_floor"] is None  # a CPU has no peak


@pytest.mark.skipif(GPU, reason="a GPU runs the real sizes")
def test_a_schedule_of_many_steps_is_timed_in_a_few():
    """A warm-up of 2,000 steps, for which a run of two is refused."""
    of = config.load(CONFIGS / "vqwen3-stage2.yaml")
    of = replace(of, optimiser=replace(of.optimiser, warmup=None, warmup_steps=2000))
    found = measure.report(of, measure.Options("vqwen3-stage2", False, "tiny", 1, 1, 2))
    assert found is not None and found["measured"]["steps"] == 1


@pytest.mark.parametrize("name", ["vqwen3-stage1", "vqwen3-stage2"])
def test_a_corpus_has_the_tiles_of_its_recipe(name):
    recipe = yaml_file.read(CONFIGS.parents[1] / "configs" / "recipes" / f"{name}.yaml")
    assert CORPORA[name].scheme == recorded(recipe["data"]["pretokenise"]["tiles"])


def test_without_git_there_is_no_commit(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert told(capsys, "vqwen3-stage1", "--meta")["commit"] is None


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CORPORA if name != "vqwen3-stage2"])
def test_every_recipe_runs_in_tiny(capsys, name):
    assert told(capsys, name, "--sizes", "tiny", "--steps", "1", "--warm-up", "1")["measured"]["samples"] == 4


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no GPU")
@pytest.mark.parametrize("name", CORPORA)
def test_a_gpu_has_a_peak(capsys, name):
    at = told(capsys, name, "--sizes", "tiny", "--steps", "2", "--warm-up", "1")["measured"]
    assert at["samples"] == 8 and at["losses"][0] == pytest.approx(np.log(1000), rel=0.1)
    assert 0 < at["mfu"] < 1 and 0 < at["share_of_floor"] < 1


def test_weights_and_data_of_the_config_are_left_alone():
    of = config.load(CONFIGS / "vqwen3-stage2.yaml")
    model = replace(of.model, vision=replace(of.model.vision, from_="/nowhere"))
    run = replace(of.run, validation="/nowhere", validate_every=3, keep_every=5)
    found = sizes.for_bench(replace(of, model=model, run=run), "made", "out", 7, None)
    assert found.model == of.model and found.optimiser == of.optimiser
    assert (found.data.shards, found.data.steps, found.data.epochs, found.data.batch_size) == ("made", 7, None, 128)
    assert (found.run.out, found.run.validation, found.run.keep_every) == ("out", None, None)
    assert sizes.for_bench(of, "made", "out", 7, 32).data.batch_size == 32


def test_a_corpus_is_found_by_the_name_of_the_config(tmp_path):
    assert measure.named_like(Path("configs/train/jina-vlm-align.yaml")) == "jina-vlm"
    with pytest.raises(RecipeError, match="give --like, one of vqwen3-stage1, vqwen3-stage2, llm-jp-4-vl, jina-vlm"):
        measure.named_like(tmp_path / "mine.yaml")
