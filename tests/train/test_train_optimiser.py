"""Each parameter learns by one optimiser, as its formula says, at the rate of the schedule that was asked for."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from torch import nn

from schemas.strict import RecipeError
from train import config, trainer
from train.__main__ import main
from train.config import OptimiserConfig, Part
from train.optim.muon import Muon, orthogonal
from train.optim.optimiser import make
from train.optim.schedule import learning_rate, refuse_unfit


def settings(**changes) -> OptimiserConfig:
    known = {"matrices": "muon", "learning_rate": 0.1, "warmup_steps": 0, "weight_decay": 0.5, "clip": 1.0}
    return OptimiserConfig(**{**known, "schedule": "cosine", **changes})


# ---- the schedule


def rates(total: int, **changes) -> list[float]:
    return [learning_rate(settings(learning_rate=2.0, **changes), step, total) for step in range(total)]


def test_warmup_then_half_a_cosine():
    """Four steps up to 2, then 2 * (1 + cos(pi * n / 8)) / 2."""
    root = math.sqrt(2)
    falling = [2, 1 + math.cos(math.pi / 8), 1 + root / 2, 1 + math.sin(math.pi / 8), 1]
    wanted = [0.5, 1, 1.5, 2, *falling, *(2 - rate for rate in falling[3:0:-1])]
    assert rates(12, warmup_steps=4) == pytest.approx(wanted)


def test_warmup_then_level_then_a_line_to_zero_over_the_last_fifth():
    assert rates(20, schedule="wsd", warmup_steps=2) == pytest.approx([1, *[2] * 16, 1.5, 1, 0.5])


def test_without_warmup_the_first_step_has_the_full_rate():
    assert rates(10)[0] == rates(10, schedule="wsd")[0] == 2


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_a_run_no_longer_than_its_warmup_only_rises(schedule):
    assert rates(3, schedule=schedule, warmup_steps=3) == pytest.approx([2 / 3, 4 / 3, 2])


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_a_single_step_has_the_full_rate(schedule):
    assert rates(1, schedule=schedule) == [2]


@pytest.mark.parametrize(
    ("total", "changes", "message"),
    [
        (
            10,
            {"warmup_steps": 2000},
            r"^optimiser\.warmup_steps: a warm-up of 2,000 steps in a run of 10; wanted",
        ),
        (10, {"warmup_steps": 10}, r"^optimiser\.warmup_steps: a warm-up of 10 steps in a run of 10"),
        (10, {"warmup_steps": None, "warmup": 1.0}, r"^optimiser\.warmup: a warm-up of 10 steps"),
        (10, {"warmup_steps": 6, "schedule": "wsd", "decay": 0.5}, "of 6 steps and a decay over 5 in a run of 10"),
        (10, {"warmup_steps": 9, "schedule": "wsd"}, "of 9 steps and a decay over 2 in a run of 10"),
        (10, {"parts": {"vision": Part(warmup_steps=12)}}, r"^optimiser\.parts\.vision\.warmup_steps: .* 12 steps"),
        (10, {"schedule": "wsd", "parts": {"vision": Part(warmup=0.9)}}, r"^optimiser\.parts\.vision\.warmup: .* 9 st"),
    ],
)
def test_a_schedule_that_does_not_fit_into_the_run_is_refused(total, changes, message):
    with pytest.raises(RecipeError, match=message) as raised:
        refuse_unfit(settings(**changes), total)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("total", "changes"),
    [
        (10, {"warmup_steps": 9}),
        (10, {"warmup_steps": 5, "schedule": "wsd", "decay": 0.5}),
        (10, {"warmup_steps": None, "warmup": 0.3, "schedule": "wsd", "decay": 0.7}),
        (1, {"warmup_steps": None, "warmup": 0.03, "schedule": "wsd", "parts": {"vision": "frozen"}}),
    ],
)
def test_a_schedule_that_fits_reaches_its_rate_and_never_jumps_down(total, changes):
    of = settings(**changes)
    refuse_unfit(of, total)
    found = [learning_rate(of, step, total) for step in range(total)]
    assert max(found) == pytest.approx(of.learning_rate)
    top = found.index(max(found))
    fall = of.learning_rate / max(1.0, of.decay * total) if of.decay else of.learning_rate
    assert all(0 <= one - two <= fall * (1 + 1e-9) for one, two in itertools.pairwise(found[top:]))


def test_plan_and_fit_say_that_a_warm_up_is_too_long(write_config, tmp_path, capsys):
    path = write_config(**{"optimiser.warmup_steps": 2000})
    for command in ("plan", "fit"):
        assert main([command, str(path)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: optimiser.warmup_steps: a warm-up of 2,000 steps in a run of 16;")
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_decay_is_of_wsd_alone():
    assert settings().decay is None and settings(schedule="wsd").decay == 0.2
    with pytest.raises(ValueError, match=r"decay is 0\.2, and a cosine has none; take it out"):
        settings(decay=0.2)


def test_training_follows_the_schedule_of_its_config(write_config, tmp_path, monkeypatch):
    """8 steps, 2 of them warmup; the last fifth of wsd are 1.6 steps. Every optimiser gets the rate that the log shows,
    and other rates make other weights."""
    weights, advance = [], trainer.Run.advance

    def watched(run, *arguments):
        line = advance(run, *arguments)
        assert {group["lr"] for each in run.optimisers for group in each.param_groups} == {line.learning_rate}
        return line

    monkeypatch.setattr(trainer.Run, "advance", watched)
    for schedule, middle, last in (("cosine", 0.005, 0.005 * (1 - math.sqrt(3) / 2)), ("wsd", 0.01, 0.00625)):
        out = tmp_path / schedule
        changes = {"optimiser.schedule": schedule, "optimiser.warmup_steps": 2, "data.epochs": 1, "run.out": str(out)}
        trainer.fit(config.load(write_config(**changes)))
        weights.append((out / "step-000008" / "model-r00000.safetensors").read_bytes())
        found = [json.loads(line)["learning_rate"] for line in (out / "log.jsonl").read_text().splitlines()]
        assert found[:3] == pytest.approx([0.005, 0.01, 0.01])
        assert found[5] == pytest.approx(middle) and found[7] == pytest.approx(last)
    assert weights[0] != weights[1]


# ---- who learns how


class Small(nn.Module):
    """A table of tokens with a head tied to it, a matrix with a bias, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.matrix = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight


def names_of(model: nn.Module):
    names = {id(p): name for name, p in model.named_parameters()}
    return lambda optimiser: {names[id(p)] for group in optimiser.param_groups for p in group["params"]}


@pytest.mark.parametrize("matrices", ["muon", "adamw"])
def test_matrices_are_the_linear_maps_and_every_parameter_is_held_once(pool, matrices):
    model = Small()
    optimisers = make(model, settings(matrices=matrices), pool)
    assert [type(each) for each in optimisers] == [Muon] * (matrices == "muon") + [torch.optim.AdamW]
    matrix, rest = {"matrix.weight"}, {"table.weight", "matrix.bias", "norm.weight", "norm.bias"}
    assert list(map(names_of(model), optimisers)) == ([matrix, rest] if matrices == "muon" else [matrix | rest])
    assert sum(len(group["params"]) for each in optimisers for group in each.param_groups) == 5
    assert {group["lr"] for each in optimisers for group in each.param_groups} == {0.1}


@pytest.mark.parametrize("matrices", ["muon", "adamw"])
def test_only_matrices_decay(pool, matrices):
    """Without a gradient's pull a matrix shrinks by learning rate times decay, and nothing else moves."""
    model = Small()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimiser in make(model, settings(matrices=matrices), pool):
        optimiser.step()
    for name, parameter in model.named_parameters():
        wanted = before[name] * (0.95 if name == "matrix.weight" else 1)
        assert torch.allclose(parameter, wanted, rtol=1e-6, atol=0), name


def test_adamw_remembers_by_the_stated_betas(pool):
    model = Small()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    for optimiser in make(model, settings(matrices="adamw"), pool):
        optimiser.step()
        for state in optimiser.state.values():
            assert torch.allclose(state["exp_avg"], torch.tensor(0.2))  # (1 - 0.9) * 2
            assert torch.allclose(state["exp_avg_sq"], torch.tensor(0.2))  # (1 - 0.95) * 4


# ---- Muon


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (1, 5)])
def test_orthogonal_keeps_the_directions_and_brings_their_lengths_near_one(shape):
    """Singular values from 1 down to 1 / 50 of the largest, whatever the matrix's scale."""
    torch.manual_seed(0)
    u, _, vt = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    lengths = torch.logspace(0, -1.7, min(shape), dtype=torch.float64)
    for scale in (1e-3, 1.0, 300.0):
        inside = u.T @ orthogonal(u @ torch.diag(lengths * scale) @ vt) @ vt.T
        assert ((inside.diagonal() > 0.6) & (inside.diagonal() < 1.3)).all()
        assert (inside - torch.diag(inside.diagonal())).abs().max() < 1e-6


def test_the_iteration_is_the_published_quintic():
    """On a single number x / (|x| + 1e-7) = 1 it is 3.4445 x - 4.775 x^3 + 2.0315 x^5, five times over."""
    x = 1.0
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    assert float(orthogonal(torch.tensor([[3.0]], dtype=torch.float64))) == pytest.approx(x, rel=1e-5)


def test_no_gradient_is_no_direction():
    assert not orthogonal(torch.zeros(3, 5)).any()


@pytest.mark.parametrize("shape", [(8, 3), (3, 8)])
def test_a_step_moves_a_matrix_by_its_rate_in_root_mean_square(pool, shape):
    torch.manual_seed(1)
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.randn(shape)
    Muon([parameter], lr=0.01, weight_decay=0.0, pool=pool).step()
    assert 0.006 < float(parameter.detach().square().mean().sqrt()) < 0.013
    assert (parameter.detach() * parameter.grad).sum() < 0  # downhill


def test_momentum_is_a_moving_average_that_looks_one_step_ahead(pool):
    """average = 0.95 average + 0.05 gradient, direction = 0.05 gradient + 0.95 average, over two steps."""
    torch.manual_seed(2)
    first, second = torch.randn(2, 4, 6, dtype=torch.float64)
    parameter = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
    muon = Muon([parameter], lr=1.0, weight_decay=0.0, pool=pool)
    parameter.grad = first.clone()
    muon.step()
    before = parameter.detach().clone()
    parameter.grad = second.clone()
    muon.step()
    average = 0.95 * 0.05 * first + 0.05 * second
    assert torch.allclose(muon.state[parameter]["momentum"], average)
    wanted = orthogonal(0.05 * second + 0.95 * average) * math.sqrt(6)
    assert torch.allclose(before - parameter.detach(), wanted)
    assert torch.equal(parameter.grad, second)  # the log's norm is of the gradient itself


def test_a_matrix_without_a_gradient_stays(pool):
    """The tower, while all samples of a step are text."""
    still, moved = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    moved.grad = torch.ones(2, 2)
    muon = Muon([still, moved], lr=0.1, weight_decay=0.5, pool=pool)
    muon.step()
    assert torch.equal(still.detach(), torch.ones(2, 2)) and still not in muon.state
    assert not torch.equal(moved.detach(), torch.ones(2, 2))
