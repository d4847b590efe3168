"""What each target counts: against a plain loop sample by sample; and the head in chunks against the head at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_train_families import made
from tiny_models import facts, mixed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from train.data.collate import collate
from train.data.shards import Sample
from train.distributed.gradient import accumulate
from train.models import loss
from train.models.vision_language import VisionLanguage

NAME = "internvl_siglip"


def uneven() -> list[Sample]:
    """Not all samples have as many targets."""
    samples = mixed(facts(NAME))
    samples[2].target_spans[1, 0] -= 2
    return samples


def by_hand(model: VisionLanguage, weigh: str) -> Tensor:
    """The definition: one sample after the other, one target after the other."""
    above, below = torch.zeros(()), 0.0
    for sample in uneven():
        losses = model(collate([sample], facts(NAME)))
        weight = {"tokens": 1.0, "samples": 1 / len(losses), "sqrt": len(losses) ** -0.5}[weigh]
        for each in losses:
            above, below = above + weight * each, below + weight
    return above / below


@pytest.mark.parametrize("packs", [[[0, 1, 2, 3, 4]], [[3], [0, 4], [2, 1]], [[4], [3], [2], [1], [0]]])
@pytest.mark.parametrize("weigh", ["tokens", "samples", "sqrt"])
def test_the_loss_is_that_of_a_loop_over_samples_however_they_are_packed(weigh, packs):
    of, apart, packed, samples = facts(NAME), made(NAME), made(NAME), uneven()
    wanted = by_hand(apart, weigh)
    wanted.backward()
    with ThreadPoolExecutor(2) as pool:
        made_up = [collate([samples[number] for number in pack], of) for pack in packs]
        found, _ = accumulate(packed, made_up, pool, weigh)
    assert found == pytest.approx(wanted.item(), rel=1e-6)
    gradients = {name: parameter.grad for name, parameter in packed.named_parameters()}
    for name, parameter in apart.named_parameters():
        assert (gradients[name] - parameter.grad).abs().max() <= 1e-5 * parameter.grad.abs().max() + 1e-7, name


def test_each_way_of_weighing_is_another_loss():
    model, pack = made(NAME), collate(uneven(), facts(NAME))
    with ThreadPoolExecutor(1) as pool:
        found = {accumulate(model, [pack], pool, weigh)[0] for weigh in ("tokens", "samples", "sqrt")}
    assert len(found) == 3


def test_a_sample_without_targets_counts_nothing():
    of, model = facts(NAME), made(NAME)
    samples = mixed(of)
    with ThreadPoolExecutor(1) as pool:
        wanted = accumulate(model, [collate([samples[1], samples[3]], of)], pool, "samples")[0]
        samples[0].target_spans[:] = 1
        found = accumulate(model, [collate([samples[1], samples[0], samples[3]], of)], pool, "samples")[0]
        alone = accumulate(model, [collate([samples[0]], of)], pool, "samples")[0]
    assert found == pytest.approx(wanted, rel=1e-6) and alone == 0


@pytest.mark.parametrize("rows", [0, 1, 6, 7, 8, 20, 21])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_head_in_chunks_is_the_head_at_once(rows, frozen):
    torch.manual_seed(1)
    head, labels = nn.Linear(5, 11, bias=False).requires_grad_(not frozen), torch.randint(0, 11, (rows,))
    weights, found = torch.rand(rows), []
    for chunk in (7, 1000):
        hidden = torch.linspace(-3, 3, rows * 5).reshape(rows, 5).requires_grad_()
        losses = loss.target_losses(head, hidden, labels, chunk)
        wanted = [hidden] if frozen else [hidden, head.weight]
        found.append([losses.detach(), *torch.autograd.grad((losses * weights).sum(), wanted)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_losses_of_a_bf16_head_are_fp32():
    torch.manual_seed(1)
    head, hidden, labels = nn.Linear(5, 11).bfloat16(), torch.randn(9, 5).bfloat16(), torch.arange(9)
    losses = loss.target_losses(head, hidden, labels)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, cross_entropy(head(hidden).float(), labels, reduction="none"))


def test_of_many_targets_no_more_logits_are_kept_than_those_of_a_chunk():
    """What the backward pass keeps: nothing as wide as the vocabulary but the head's own weights."""
    head, hidden = nn.Linear(4, 500, bias=False), torch.randn(64, 4, requires_grad=True)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    labels = torch.zeros(64, dtype=torch.int64)
    for chunk, most in ((16, 0), (64, 64 * 500)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss.target_losses(head, hidden, labels, chunk)
        wide = {tensor.data_ptr(): tensor.numel() for tensor in kept if tensor.shape[-1:] == (500,)}
        assert (max(wide.values(), default=0) >= most) and (bool(wide) == bool(most))
