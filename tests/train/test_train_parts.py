"""Each part of a model learns at its own rate, with its own decay, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file
from tiny_models import settings

from train import config, trainer
from train.config import OptimiserConfig
from train.data.collate import collate
from train.distributed.gradient import accumulate
from train.models import build, parts
from train.optim import optimiser, schedule


def made(of: OptimiserConfig, name: str = "llava"):
    model = build.build(tiny_models.config(name), tiny_models.facts(name))
    tiny_models.shuffled(model)
    parts.freeze(model, of)
    return model


JINA = {
    "vision": {"learning_rate": 6e-6, "warmup": 0.1},
    "projector": {"learning_rate": 2e-4, "warmup": 0.01},
    "language": {"learning_rate": 2e-5},
}


def test_jinas_rates(pool):
    """Its first stage: three rates, warm-up over 10, 1 and 10 %, all down a cosine to a tenth."""
    of = settings(parts=JINA, warmup_steps=None, warmup=0.1, floor=0.1)
    optimisers = optimiser.make(made(of), of, pool)
    found = []
    for step in (0, 9, 99, 1000 - 1):
        highest = schedule.set_rates(optimisers, of, step, 1000)
        rates = {group["part"]: group["lr"] for each in optimisers for group in each.param_groups}
        assert highest == rates["projector"]
        found.append(rates)
    assert found[0] == pytest.approx({"vision": 6e-8, "projector": 2e-5, "language": 2e-7})
    assert found[1]["projector"] == 2e-4 and found[2]["vision"] == 6e-6 and found[2]["language"] == 2e-5
    assert found[3] == pytest.approx({"vision": 6e-7, "projector": 2e-5, "language": 2e-6}, rel=1e-3)


def test_a_part_has_its_own_warm_up_floor_and_decay():
    """Whichever way the section and the part say their warm-ups."""
    of = settings(warmup_steps=5, floor=0.5, parts={"vision": {"warmup": 0.3, "floor": 0.0, "weight_decay": 0.0}})
    assert schedule.warmup_steps(of.of("vision"), 10) == 3 and schedule.warmup_steps(of.of("language"), 10) == 5
    assert (of.of("vision").floor, of.of("language").floor) == (0.0, 0.5)
    assert (of.of("vision").weight_decay, of.of("language").weight_decay) == (0.0, 0.5)
    again = settings(warmup_steps=None, warmup=0.5, parts={"vision": {"warmup_steps": 7}})
    assert schedule.warmup_steps(again.of("vision"), 10) == 7 and schedule.warmup_steps(again.of("language"), 10) == 5


@pytest.mark.parametrize(("share", "total", "steps"), [(0.03, 90, 3), (0.07, 100, 7), (0.0, 10, 0), (1.0, 4, 4)])
def test_a_share_of_the_steps_is_rounded_up(share, total, steps):
    assert schedule.warmup_steps(settings(warmup_steps=None, warmup=share), total) == steps


def test_wsd_falls_to_the_floor_over_the_stated_share():
    of = settings(schedule="wsd", decay=0.5, floor=0.2)
    rates = [schedule.learning_rate(of, step, 8) for step in range(8)]
    assert rates == pytest.approx([0.1] * 5 + [0.02 + 0.08 * left / 4 for left in (3, 2, 1)])


@pytest.mark.parametrize("name", tiny_models.MODELS)
@pytest.mark.parametrize("matrices", ["muon", "adamw"])
def test_the_decay_of_a_part_is_on_its_matrices_alone(pool, matrices, name):
    """A stack of experts is of matrices, too."""
    of = settings(matrices=matrices, parts={"vision": {"weight_decay": 0.0}, "projector": {"weight_decay": 0.25}})
    model = made(of, name)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for each in optimiser.make(model, of, pool):
        each.step()
    shrunk = {"vision": 1.0, "projector": 0.975, "language": 0.95}
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    linear |= {name for name, _ in model.named_parameters() if name.endswith(("gate_up_proj", "experts.down_proj"))}
    for name, parameter in model.named_parameters():
        wanted = shrunk[parts.part_of(name)] if name in linear else 1.0
        assert torch.allclose(parameter, before[name] * wanted, rtol=1e-6, atol=0), name


@pytest.mark.parametrize("matrices", ["muon", "adamw"])
def test_frozen_parts_have_no_gradient_and_no_state_and_the_others_the_same_gradient(pool, matrices):
    of = settings(matrices=matrices, parts={"vision": "frozen", "language": "frozen"})
    facts = tiny_models.facts("llava")
    packs = [collate(tiny_models.mixed(facts), facts)]
    model, free = made(of), made(settings())
    assert accumulate(model, packs, pool)[0] == pytest.approx(accumulate(free, packs, pool)[0])
    optimisers = optimiser.make(model, of, pool)
    for each in optimisers:
        each.step()
    held = {id(parameter) for each in optimisers for parameter in each.state}
    whole = dict(free.named_parameters())
    for name, parameter in model.named_parameters():
        learns = name.startswith("projector.")
        assert (id(parameter) in held) == (parameter.grad is not None) == parameter.requires_grad == learns, name
        if learns:
            assert torch.allclose(parameter.grad, whole[name].grad, rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(parameter, whole[name])


def test_a_step_of_text_alone_moves_nothing_where_only_the_projector_learns(pool):
    of = settings(parts={"vision": "frozen", "language": "frozen"})
    model, facts = made(of), tiny_models.facts("llava")
    packs = [collate([tiny_models.sample(facts, 1)], facts), collate([tiny_models.sample(facts, 5)], facts)]
    assert accumulate(model, packs, pool)[0] > 0
    assert all(parameter.grad is None for parameter in model.parameters())
    assert float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)) == 0


def test_a_run_trains_what_is_not_frozen_and_goes_on_where_it_was_killed(write_config, tmp_path):
    """All weights are in the checkpoint, a state only of what learns."""
    frozen = {"optimiser.parts": {"vision": "frozen", "projector": {"learning_rate": 0.02, "warmup": 0.5}}}

    def weights(name: str, watch=None, **changes) -> dict[str, torch.Tensor]:
        path = write_config(**{"run.out": str(tmp_path / name), "data.epochs": 1, **frozen, **changes})
        trainer.fit(config.load(path), watch)
        return load_file(newest(tmp_path / name) / "model-r00000.safetensors")

    def killed(line) -> None:
        if line.step == 5:
            raise KeyboardInterrupt

    whole = weights("whole")
    with pytest.raises(KeyboardInterrupt):
        weights("killed", killed)
    again = weights("killed")
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)
    still = weights("still", **{"optimiser.learning_rate": 1e-30, "optimiser.parts": {"vision": "frozen"}})
    moved = {name for name in whole if not torch.equal(whole[name], still[name])}
    assert {parts.part_of(name) for name in moved} == {"projector", "language"}
    state = load_file(newest(tmp_path / "whole") / "optimiser-r00000.safetensors")
    assert {parts.part_of(name) for name in state} == {"projector", "language"}


def newest(out: Path) -> Path:
    return max(out.glob("step-*"))
