"""What a step tells of itself, against what was computed otherwise."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time

import pytest
import torch
from test_train_families import made
from test_train_fit import fit_until
from test_train_flops import CLIP_L, QWEN3_4B, real
from tiny_models import config as tiny_config
from tiny_models import facts, mixed
from tiny_shards import talks, write_shards

from schemas import strict
from stages.tiles.llava15 import Llava15Square
from train import config, metrics, trainer
from train.config import ModelConfig
from train.data import loader
from train.data.collate import Member, Pack, collate
from train.data.folders import open_shards
from train.distributed.processes import ALONE
from train.metrics import Told
from train.models import build, flops

NAME = "internvl_siglip"


def member(name: str, source: str, language: str | None, targets: int) -> Member:
    return Member(name, source, language, 10, targets, 0)


def test_losses_by_source_and_language_are_means_over_target_tokens():
    of = [
        Told(member("1", "b", "en", 1), 4.0),
        Told(member("2", "a", None, 2), 4.0),
        Told(member("3", "b", "ja", 3), 4.0),
        Told(member("4", "c", "en", 0), 0.0),
    ]
    assert metrics.by_source(of) == {"a": 2.0, "b": 2.0}
    assert metrics.by_language(of) == {"en": 4.0, "ja": 4 / 3, "unknown": 2.0}
    assert list(metrics.by_source(of)) == ["a", "b"]


def test_each_sample_is_told_its_own_loss():
    of, model = facts(NAME), made(NAME)
    samples = [dataclasses.replace(each, source=f"s{number}") for number, each in enumerate(mixed(of))]
    samples[1].target_spans[:] = 1  # it has no targets
    packs = [collate(samples[:3], of), collate(samples[3:], of)]
    with torch.no_grad():
        found = metrics.told(packs, [model(pack) for pack in packs])
        wanted = [model(collate([each], of)).sum().item() for each in samples]
    assert [each.sample.source for each in found] == ["s0", "s1", "s2", "s3", "s4"]
    assert [each.loss for each in found] == [pytest.approx(loss, rel=1e-5) for loss in wanted]
    assert [each.sample.tokens for each in found] == [len(each.input_ids) for each in samples]
    tiles = [sum(span.grid.num_tiles for span in each.image_spans) for each in samples]
    assert [each.sample.tiles for each in found] == tiles and max(tiles) > 1


def test_a_part_without_gradients_has_no_norm():
    model = made(NAME)
    model(collate(mixed(facts(NAME)), facts(NAME))).sum().backward()
    found = metrics.norms(model)
    assert found.keys() == {"vision", "projector", "language"}
    squares = sum(p.grad.double().square().sum().item() for p in model.parameters())
    assert math.hypot(*found.values()) == pytest.approx(math.sqrt(squares), rel=1e-5)
    for parameter in model.vision.parameters():
        parameter.grad = None
    assert metrics.norms(model).keys() == {"projector", "language"}


def test_flops_of_a_step_follow_what_is_trained():
    """Once forward; again where a gradient passes; again for weights that are trained."""
    of, model = facts(NAME), made(NAME)
    once = dataclasses.asdict(flops.count(model, tiny_config(NAME), of))

    def times() -> list[float]:
        found = dataclasses.asdict(flops.training(model, tiny_config(NAME), of))
        return [found[name] / once[name] for name in ("tile_vision", "tile_projector", "token", "pair", "target")]

    assert times() == [3, 3, 3, 3, 3]
    model.vision.requires_grad_(False)
    assert times() == [1, 3, 3, 3, 3]
    model.language.requires_grad_(False)
    assert times() == [1, 3, 2, 3, 2]
    model.projector.requires_grad_(False)
    assert times() == [1, 1, 1, 1, 1]
    model.decoder.layers[-1].mlp.requires_grad_(True)
    assert times()[:2] == [1, 1] and 2 < times()[2] < 3 and times()[3:] == [3, 2]


def test_flops_of_vqwen3s_first_stage_are_the_published_9_39_tflop():
    model = strict.build(ModelConfig, {"family": "llava", "vision": CLIP_L, "language": QWEN3_4B, "init_seed": 0})
    of = dataclasses.replace(facts("llava"), scheme=Llava15Square())
    with torch.device("meta"):
        shell = build.build(model, of)
    shell.requires_grad_(False).projector.requires_grad_(True)
    assert sum(flops.training(shell, model, of).parts([595], 19, 1).values()) / 1e12 == pytest.approx(9.39, abs=0.03)
    assert real("llava", CLIP_L, QWEN3_4B, Llava15Square())[0] == flops.count(shell, model, of)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("NVIDIA H200", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H100 80GB HBM3", 989e12), ("GTX 1080", None)],
)
def test_the_peak_is_the_devices_own_or_none(name, wanted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert metrics.peak(torch.device("cuda")) == wanted
    assert metrics.peak(torch.device("cpu")) is None


def test_utilisation_is_work_over_time_and_peak(monkeypatch):
    of, model = facts(NAME), made(NAME)
    meter = metrics.Meter(model, tiny_config(NAME), of, torch.device("cpu"), 4)
    told = metrics.told([pack := collate(mixed(of), of)], [torch.zeros(pack.num_targets)])
    assert meter.measured(told, 2.0)["mfu"] is None
    meter.peak = 1e9
    lengths = [len(each.input_ids) for each in mixed(of)]
    work = 3 * sum(flops.count(model, tiny_config(NAME), of).parts(lengths, pack.num_targets, len(pack.tiles)).values())
    found = meter.measured(told, 2.0)
    assert found["mfu"] == pytest.approx(work / 2.0 / 4e9)
    assert found["tokens_per_second"] == sum(lengths) / 2 and found["samples_per_second"] == 2.5


def test_the_time_a_step_is_waited_for_is_told():
    waits = iter([0.0, 0.05])

    def slow():
        for wait in waits:
            time.sleep(wait)
            yield wait

    meter = metrics.Meter(made(NAME), tiny_config(NAME), facts(NAME), torch.device("cpu"), 1)
    found = [meter.measured([], 1.0)["waited"] for _ in meter.waiting(slow())]
    assert found[0] < 0.04 <= found[1] < 1


def test_the_log_tells_losses_norms_speed_and_memory(write_config, tmp_path, shards):
    other = write_shards(tmp_path / "other", talks(7), source="other", texts=_texts())
    path = write_config(**{"data.shards": {"a": str(shards), "b": str(other)}, "data.epochs": 1})
    fit_until(path, 3)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {name for line in lines for name in line["loss_by_source"]} <= {"a:tests", "b:other"}
    for line in lines:
        assert line["loss_by_language"] == {"en": pytest.approx(line["loss"], rel=1e-5)}
        assert line["mfu"] is None and 0 <= line["waited"] < line["seconds"]
        assert line["memory"] > 2**26
        assert line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"])
        assert math.hypot(*line["gradient_norms"].values()) == pytest.approx(line["gradient_norm"], rel=1e-4)


def _texts() -> list[str]:
    return [text for talk in talks(60) for turn in talk.turns for text in turn]


def test_sources_of_named_folders_bear_their_names(shards):
    opened = open_shards({"a": str(shards), "b": str(shards)})
    assert {opened.sample(0).source, opened.sample(len(opened) - 1).source} == {"a:tests", "b:tests"}
    assert opened.sample(0).language == "en"


def test_a_loss_that_is_no_number_names_the_samples_that_have_it(write_config, tmp_path):
    """A row of the embedding is none: only samples with that token are without a loss."""
    of = config.load(write_config(**{"model.language.tie_embeddings": False, "data.max_tokens_per_pack": 70}))
    shards = open_shards(of.data.shards)
    run = trainer.Run(of, shards, trainer.make_plan(of, shards), ALONE)
    run.out.mkdir()
    run.start()
    first = next(loader.steps(shards, run.plan, run.position))
    with torch.no_grad():
        run.model.decoder.embed_tokens.weight[(token := _rare(first))] = math.nan
    with run.pool, pytest.raises(trainer.TrainingError) as error:
        run.advance(first)
    named = [sample.sample_id for pack in first.packs for sample, ids in _ids(pack) if token in ids]
    everyone = [sample.sample_id for pack in first.packs for sample in pack.samples]
    assert 0 < len(named) < len(everyone)
    found = json.loads((tmp_path / "run" / "stopped.json").read_text())
    assert [each["sample_id"] for each in found["samples"][: len(named)]] == named and found["step"] == 1
    assert [each["loss"] is None for each in found["samples"]] == [True] * len(named) + [False] * (8 - len(named))
    assert sorted(each["sample_id"] for each in found["samples"]) == sorted(everyone)
    assert f"samples {', '.join(named[:5])}" in str(error.value) and "\n" not in str(error.value)


def _ids(pack: Pack) -> list[tuple[Member, list[int]]]:
    ends = pack.sample_ends
    rows = [pack.input_ids[0, start:end].tolist() for start, end in itertools.pairwise(ends)]
    return list(zip(pack.samples, rows, strict=True))


def _rare(step: loader.Step) -> int:
    """A token before the first target of some samples, and nowhere in the others."""
    heads = [set(ids[:9]) for pack in step.packs for _, ids in _ids(pack)]
    bodies = [set(ids) for pack in step.packs for _, ids in _ids(pack)]
    for token in sorted(set().union(*bodies)):
        having = [token in body for body in bodies]
        if any(having) and not all(having) and having == [token in head for head in heads]:
            return token
    raise AssertionError("every token is in all samples, or late")
