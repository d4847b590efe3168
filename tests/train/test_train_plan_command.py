"""`python -m train plan`: what it says is what a run does, and estimates follow from the sizes."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_shards import SCHEME
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from train import config, estimate, placing, trainer
from train.__main__ import main
from train.data import realised
from train.data.collate import collate
from train.data.folders import open_shards
from train.distributed.processes import ALONE, World
from train.models import build
from train.models.family import ModelError
from train.models.flops import count, parameters

CPU = torch.device("cpu")


def planned(path, capsys, *options: str) -> dict:
    assert main(["plan", str(path), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "keys",
    [
        {"data.epochs": 1},
        {"data.epochs": None, "data.steps": 5},
        {"data.batch_size": None, "data.batch_tokens": 400, "data.epochs": 1},
        {"data.mixture": {"unit": "targets", "by": "subset", "repeats": {"tests/tests": 2}}, "data.epochs": 1},
        {"data.epochs": None, "data.schedule": [{"steps": 2, "batches": "single"}, {"steps": 3, "batches": "mixed"}]},
    ],
)
def test_it_says_what_the_run_then_does(write_config, tmp_path, capsys, keys):
    path = write_config(**keys)
    told = planned(path, capsys)
    summary = trainer.fit(config.load(path))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert (told["steps"], told["samples"], told["tokens"]) == (summary.steps, summary.samples, summary.tokens)
    assert told["targets"] == summary.target_tokens == sum(line["targets"] for line in lines)
    assert told["samples"] == sum(line["samples"] for line in lines) and told["steps"] == len(lines)
    assert told["tiles"] == sum(line["tiles"] for line in lines)
    assert told["packing"]["packs"] == pytest.approx(sum(line["packs"] for line in lines) / len(lines))
    assert told["packing"]["fill"] == pytest.approx(told["tokens"] / (120 * sum(line["packs"] for line in lines)))


def test_the_mixture_is_shown_by_source(write_config, shards, capsys):
    told = planned(write_config(), capsys)["sources"]["tests"]
    index = pq.read_table(shards / "index.parquet")
    assert told["passes"] == 2.0 and told["tokens"] == 2 * sum(index["num_tokens"].to_pylist())
    assert told["samples_share"] == told["tokens_share"] == told["targets_share"] == 1.0


def test_imbalance_is_of_the_costliest_rank(write_config, capsys):
    imbalance = planned(write_config(), capsys)["packing"]["imbalance"]
    assert list(imbalance) == ["1", "2", "4", "8"]
    assert all(1 <= value < 3 for value in imbalance.values()) and imbalance["2"] < 1.2


def test_hours_follow_from_what_is_assumed(write_config, capsys):
    path = write_config()
    one = planned(path, capsys, "--tflops", "100", "--mfu", "0.5")
    assert one["estimated_hours"] == pytest.approx(one["estimated_flops"] / (100e12 * 0.5 * 3600))
    four = planned(path, capsys, "--tflops", "100", "--mfu", "0.25", "--ranks", "4")
    assert four["estimated_hours"] == pytest.approx(one["estimated_hours"] / 2)


def test_flops_are_those_that_torch_counts(write_config, shards):
    """Forward of one sample by torch's own counter, which does not halve what is causal; backward is twice as much."""
    of, opened = config.load(write_config()), open_shards(str(shards))
    pack = collate([opened.sample(0)], opened.facts)
    tokens, tiles = pack.sample_ends[-1], len(pack.tiles)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        build.build(of.model, opened.facts)(pack)
    run = realised.Amounts(*(np.array([number]) for number in (1, tokens, pack.num_targets, tiles, tokens**2)))
    told = estimate.flops(build.shell(of.model, opened.facts, of.optimiser), of, opened.facts, run)
    vision, language = of.model.vision, of.model.language
    halved = 6 * language.hidden_size * language.num_layers * tokens**2
    patches = (SCHEME.tile // SCHEME.patch) ** 2
    embedding = 6 * 3 * SCHEME.patch**2 * vision.hidden_size * patches * tiles  # which the planner's costs leave out
    assert told + halved + embedding == pytest.approx(3 * counter.get_total_flops(), rel=0.03)


def test_memory_is_of_every_parameter(write_config, shards, capsys):
    told = planned(write_config(), capsys)["estimated_bytes"]
    summary = trainer.fit(config.load(write_config(**{"data.epochs": 1})))
    capsys.readouterr()
    assert told["parameters"] == told["gradients"] == 4 * summary.parameters
    adamw = planned(write_config(**{"optimiser.matrices": "adamw"}), capsys)["estimated_bytes"]
    assert adamw["optimiser"] == 8 * summary.parameters > told["optimiser"]
    wide = planned(write_config(**{"data.max_tokens_per_pack": 240}), capsys)["estimated_bytes"]
    assert wide["activations"] > told["activations"] > 0
    assert told["total"] == sum(value for name, value in told.items() if name != "total")


def test_frozen_parts_take_no_gradients_moments_or_their_flops(write_config, shards, capsys):
    """With the tower frozen its backward pass is gone; with the decoder frozen what is for its weights."""
    whole = planned(write_config(), capsys)
    tower = planned(write_config(**{"optimiser.parts": {"vision": "frozen"}}), capsys)
    both = planned(write_config(**{"optimiser.parts": {"vision": "frozen", "language": "frozen"}}), capsys)
    made = build.build(config.load(write_config()).model, open_shards(str(shards)).facts)
    sizes = parameters(made)
    for told, learnt in ((tower, sizes["projector"] + sizes["language"]), (both, sizes["projector"])):
        assert told["estimated_bytes"]["parameters"] == 4 * sum(sizes.values())
        assert told["estimated_bytes"]["gradients"] == 4 * learnt > told["estimated_bytes"]["optimiser"] / 2
    of = count(made, config.load(write_config()).model, open_shards(str(shards)).facts)
    assert whole["estimated_flops"] - tower["estimated_flops"] == pytest.approx(2 * of.tile_vision * whole["tiles"])
    of_weights = of.token * whole["tokens"] + of.target * whole["targets"]
    assert tower["estimated_flops"] - both["estimated_flops"] == pytest.approx(of_weights)


def test_bytes_are_those_of_the_dtypes(write_config, capsys):
    """Half of everything in bfloat16; with masters in float32 half of what is frozen and of what is computed."""
    adamw = {"optimiser.matrices": "adamw"}
    full = planned(write_config(**adamw), capsys)["estimated_bytes"]
    compute = adamw | {"optimiser.compute": "bfloat16"}
    half = planned(write_config(**compute, **{"optimiser.states": "bfloat16"}), capsys)["estimated_bytes"]
    gradients = full["gradients"] * 3 // 2  # in bfloat16, and their sum in float32
    assert half["gradients"] == gradients and half.pop("total") == sum(half.values())
    wanted = {name: value // 2 for name, value in full.items() if name != "total"}
    assert half == {**wanted, "gradients": gradients}
    frozen = {"optimiser.parts": {"vision": "frozen"}}
    still = planned(write_config(**adamw, **frozen), capsys)["estimated_bytes"]
    mixed = planned(write_config(**compute, **frozen), capsys)["estimated_bytes"]
    assert still["parameters"] - mixed["parameters"] == (still["parameters"] - still["gradients"]) / 2 > 0
    assert mixed["gradients"] == still["gradients"] and mixed["activations"] == still["activations"] / 2


def test_recomputed_layers_and_a_frozen_tower_keep_fewer_activations(write_config, capsys):
    deep = {"model.language.num_layers": 8}
    kept = [
        planned(write_config(**deep, **changes), capsys)["estimated_bytes"]["activations"]
        for changes in ({}, {"optimiser.parts": {"vision": "frozen"}}, {"run.recompute": True})
    ]
    assert kept[0] > kept[1] > 2 * kept[2]


@pytest.mark.parametrize(
    ("changes", "each"),
    [
        ({}, (12, 12)),
        ({"parts": {"vision": "frozen"}}, (4, 12)),
        ({"parts": {"vision": "frozen"}, "compute": "bfloat16"}, (2, 12)),
        ({"matrices": "adamw", "compute": "bfloat16", "states": "bfloat16"}, (6, 6)),
    ],
)
def test_a_model_is_too_large_by_what_it_will_hold(write_config, shards, monkeypatch, changes, each):
    """Bytes of a parameter of the tower, and of another: weights, and of those that learn a gradient and a moment."""
    of, facts = (
        config.load(write_config(**{f"optimiser.{k}": v for k, v in changes.items()})),
        open_shards(str(shards)).facts,
    )
    vision, *others = parameters(build.build(of.model, facts)).values()
    needed = each[0] * vision + each[1] * sum(others)
    memory(monkeypatch, needed)
    placing.refuse_too_large(of, facts, ALONE, CPU)
    memory(monkeypatch, needed - 1)
    with pytest.raises(ModelError, match="this machine has"):
        placing.refuse_too_large(of, facts, ALONE, CPU)


def memory(monkeypatch, size: int) -> None:
    monkeypatch.setattr(placing.os, "sysconf", lambda name: 1 if name == "SC_PAGE_SIZE" else size)


@pytest.mark.parametrize(
    ("device", "here", "count", "each"),
    [("cuda", 1, 1, 4), ("cuda", 8, 16, 32), ("cpu", 2, 2, 12), ("cpu", 8, 8, 32), ("cpu", 2, 4, 8)],
)
def test_each_process_of_a_machine_makes_all_weights(write_config, shards, monkeypatch, device, here, count, each):
    """Bytes of a parameter, all of which learn: on GPUs the host has the weights alone."""
    of, facts = config.load(write_config()), open_shards(str(shards)).facts
    needed = each * sum(parameters(build.build(of.model, facts)).values())
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    memory(monkeypatch, needed)
    placing.refuse_too_large(of, facts, World(0, count), torch.device(device))
    memory(monkeypatch, needed - 1)
    with pytest.raises(ModelError, match=rf"\(processes: {here}\)"):
        placing.refuse_too_large(of, facts, World(0, count), torch.device(device))


def test_a_model_too_large_for_this_machine_is_planned_and_not_trained(write_config, capsys, monkeypatch):
    path = write_config()
    memory(monkeypatch, 1000)
    assert main(["fit", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: model: ") and told.count("\n") == 1
    assert planned(path, capsys)["steps"] == 16


@pytest.mark.parametrize("key", ["validation", "evaluate"])
def test_what_fit_refuses_to_measure_by_is_refused_by_the_plan(write_config, shards, tmp_path, capsys, key):
    keys = {
        "validation": {"run.validation": str(shards), "run.validate_every": 1},
        "evaluate": {"run.evaluate": {"benchmarks": str(tmp_path / "no"), "every": 1}},
    }
    path = str(write_config(**keys[key]))
    assert main(["fit", path]) == 2
    told = capsys.readouterr().err
    assert main(["plan", path]) == 2
    assert capsys.readouterr().err == told and told.startswith("error: ")


def test_it_is_a_table_for_people(write_config, capsys):
    assert main(["plan", str(write_config())]) == 0
    out = capsys.readouterr().out
    assert "16 steps, 2.00 epochs, 120 samples" in out and "tests" in out and "an estimate" in out


@pytest.mark.parametrize("options", [["--mfu", "0"], ["--tflops", "x"], ["--ranks", "0"], ["--mfu", "inf"]])
def test_a_wrong_option_is_one_line(write_config, capsys, options):
    assert main(["plan", str(write_config()), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
