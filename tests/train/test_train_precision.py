"""bfloat16: what is computed in it comes near, what is held in it still learns, and a resumed run draws the same."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_models import settings
from tiny_shards import CONFIG
from torch import nn

from train import config, trainer
from train.config import OptimiserConfig
from train.data.collate import collate
from train.distributed.gradient import accumulate
from train.models import build, parts, precision
from train.models.chance import generator
from train.optim import optimiser
from train.optim.adamw import RoundingAdamW
from train.optim.rounding import by_chance

CPU = torch.device("cpu")


# ---- rounding


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**120), max_value=2.0**120))
def test_a_number_is_rounded_to_one_of_its_neighbours_and_an_exact_one_to_itself(value):
    x = torch.full((64,), value)
    found = by_chance(x, generator(CPU, 0)).float()
    below = (x.view(torch.int32) & ~0xFFFF).view(torch.float32)  # towards 0
    above = ((x.view(torch.int32) & ~0xFFFF) + 0x10000).view(torch.float32)
    assert ((found == below) | (found == above)).all()
    assert torch.equal(by_chance(below, generator(CPU, 1)).float(), below)


@pytest.mark.parametrize("value", [1.001, -1.001, 3.14159e-5, -7.7e8, 1 + 2**-9])
def test_the_mean_of_many_roundings_is_the_number(value):
    found = by_chance(torch.full((200_000,), value), generator(CPU, 3)).double()
    spread = abs(value) * 2**-7 / 2 / 200_000**0.5  # at most, of the mean
    assert abs(float(found.mean()) - float(torch.tensor(value))) < 5 * spread


def test_what_is_drawn_depends_on_every_part_of_the_key():
    x = torch.full((100,), 1.001)
    keys = [(0, 1, "a"), (1, 1, "a"), (0, 2, "a"), (0, 1, "b")]
    found = [by_chance(x, generator(CPU, *key)).tolist() for key in keys]
    assert all(one != other for number, one in enumerate(found) for other in found[:number])
    assert by_chance(x, generator(CPU, *keys[0])).tolist() == found[0]


# ---- AdamW


def steps(made: torch.optim.Optimizer, weight: nn.Parameter, count: int) -> None:
    torch.manual_seed(4)
    for _ in range(count):
        weight.grad = torch.randn(weight.shape).to(weight.dtype)
        made.step()


@pytest.mark.parametrize("shape", [(7, 5), (3,), ()])
def test_in_float32_it_is_torchs_adamw_bit_for_bit(shape):
    torch.manual_seed(0)
    one = nn.Parameter(torch.randn(shape))
    two = nn.Parameter(one.detach().clone())
    theirs = torch.optim.AdamW([one], lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1, foreach=False)
    group = {"params": [two], "names": ["two"], "weight_decay": 0.1}
    ours = RoundingAdamW([group], lr=0.01, betas=(0.8, 0.99), eps=1e-6, seed=0)
    for made, weight in ((theirs, one), (ours, two)):
        steps(made, weight, 20)
    assert torch.equal(one, two)
    for field in ("step", "exp_avg", "exp_avg_sq"):
        assert torch.equal(theirs.state[one][field], ours.state[two][field])


def test_long_tensors_are_computed_in_pieces(monkeypatch):
    """No piece's numbers depend on where it was cut, but for what is drawn: in float32 nothing is."""
    found = []
    for piece in (2**24, 4):
        monkeypatch.setattr("train.optim.adamw._PIECE", piece)
        weight = nn.Parameter(torch.arange(15.0).view(3, 5))
        steps(RoundingAdamW([{"params": [weight], "names": ["w"]}], 0.01, (0.9, 0.95), 1e-8, 0), weight, 3)
        found.append(weight.detach())
    assert torch.equal(*found)


def test_moves_too_small_for_the_nearest_add_up():
    """1,000 moves of 1e-4 from 1.0, whose neighbours in bfloat16 are 0.996 and 1.008."""
    weight = nn.Parameter(torch.ones(500, dtype=torch.bfloat16))
    made = RoundingAdamW([{"params": [weight], "names": ["w"]}], 1e-4, (0.9, 0.95), 1e-8, 0)
    nearest = torch.ones(1, dtype=torch.bfloat16)
    for _ in range(1000):
        weight.grad = torch.ones_like(weight)
        made.step()
        nearest -= 1e-4
    assert nearest.item() == 1.0
    assert float(weight.detach().double().mean()) == pytest.approx(0.9, abs=0.002)


def test_a_second_moment_with_a_long_memory_falls_when_the_gradient_does():
    """By beta 0.999 it loses a thousandth a step, which the nearest bfloat16 never is."""
    weight = nn.Parameter(torch.ones(500, dtype=torch.bfloat16))
    made = RoundingAdamW([{"params": [weight], "names": ["w"]}], 0.0, (0.9, 0.999), 1e-8, 0)
    for step in range(1001):
        weight.grad = torch.full_like(weight, 1.0 if step == 0 else 0.0)
        made.step()
    assert float(made.state[weight]["exp_avg_sq"].double().mean()) == pytest.approx(1e-3 * 0.999**1000, rel=0.02)


def test_the_configs_numbers_reach_the_optimiser(pool):
    """betas and eps, by what a first step does: average / (|gradient| + eps)."""
    for states in ("float32", "bfloat16"):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        of = settings(betas=[0.5, 0.25], eps=1.0, weight_decay=0.0, states=states, compute=states)
        (made,) = optimiser.make(model, of, pool)
        model.weight.grad = torch.ones(1, 1)
        made.step()
        (state,) = made.state.values()
        assert (float(state["exp_avg"]), float(state["exp_avg_sq"])) == (0.5, 0.75)
        assert model.weight.item() == pytest.approx(-0.1 / 2, rel=0.01)


# ---- a model


def made(of: OptimiserConfig, name: str = "llava"):
    model = build.build(tiny_models.config(name), tiny_models.facts(name))
    tiny_models.shuffled(model)
    parts.freeze(model, of)
    precision.set_dtypes(model, of)
    if of.compute != of.states:
        precision.autocast(model)
    return model


@pytest.mark.parametrize("name", tiny_models.MODELS)
@pytest.mark.parametrize("changes", [{}, {"states": "bfloat16"}, {"parts": {"vision": "frozen"}}])
def test_a_model_computes_in_bfloat16_near_what_float32_says(pool, name, changes):
    facts = tiny_models.facts(name)
    packs = [collate(tiny_models.mixed(facts), facts)]
    exact, model = made(settings(), name), made(settings(compute="bfloat16", **changes), name)
    seen = []
    model.language.lm_head.register_forward_hook(lambda *given: seen.append(given[-1].dtype))
    wanted, found = accumulate(exact, packs, pool)[0], accumulate(model, packs, pool)[0]
    assert found == pytest.approx(wanted, rel=0.03) and found != wanted and seen == [torch.bfloat16]
    dtype = torch.bfloat16 if "states" in changes else torch.float32
    learns = {name: p for name, p in model.named_parameters() if p.grad is not None}
    assert learns and all(p.dtype == p.grad.dtype == dtype for p in learns.values())
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert bool(frozen) == ("parts" in changes) and all(p.dtype == torch.bfloat16 for p in frozen)
    buffers, wanted_buffers = dict(model.named_buffers()), dict(exact.named_buffers())
    assert all(torch.equal(buffer, wanted_buffers[name]) for name, buffer in buffers.items())


@pytest.mark.parametrize(
    "changes",
    [{"compute": "bfloat16"}, {"compute": "bfloat16", "states": "bfloat16", "matrices": "adamw"}],
)
def test_a_run_in_bfloat16_learns_and_goes_on_bit_for_bit(write_config, tmp_path, monkeypatch, changes):
    keys = {f"optimiser.{key}": value for key, value in changes.items()}

    def killed(line) -> None:
        if line.step == 5:
            raise KeyboardInterrupt

    def run(name: str, watch=None):
        return trainer.fit(config.load(write_config(**{"run.out": str(tmp_path / name), **keys})), watch)

    seeds, rounding = set(), RoundingAdamW.step
    monkeypatch.setattr(RoundingAdamW, "step", lambda made: seeds.add(made.seed) or rounding(made))
    whole = run("whole")
    exact = trainer.fit(config.load(write_config(**{"run.out": str(tmp_path / "exact")})))
    assert whole.first_loss != exact.first_loss == pytest.approx(whole.first_loss, rel=0.03)
    assert seeds == ({CONFIG["data"]["seed"]} if "states" in changes else set())
    with pytest.raises(KeyboardInterrupt):
        run("killed", killed)
    again = run("killed")
    assert whole.last_loss == again.last_loss < whole.first_loss
    for file in ("model-r00000.safetensors", "optimiser-r00000.safetensors"):
        one, two = (load_file(tmp_path / name / whole.checkpoint / file) for name in ("whole", "killed"))
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
        fields = {name: tensor.dtype for name, tensor in one.items() if not name.endswith(".step")}
        assert set(fields.values()) == {torch.bfloat16 if "states" in changes else torch.float32}
