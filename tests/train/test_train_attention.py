"""The kernel that attends in all samples of a pack at once: where it is used, and beside the pieces, its oracle.

What needs a GPU is marked `gpu` and leaves itself out elsewhere. On the meta device the kernel has shapes and no
numbers: that a whole model goes through it forward and backward is shown there.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from tiny_models import MODELS, config, facts, mixed
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from train.data.collate import Pack, collate
from train.data.loader import each_tensor, on
from train.models import build
from train.models.attention import varlen_attention

BOUNDS = [0, 1, 8, 40, 41, 100]
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]


class Calls(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.given: dict[str, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func.name()] += 1
        if func.name() == "torch_attn::_varlen_attn":
            self.given = dict(zip((each.name for each in func._schema.arguments), args, strict=False))
        return func(*args, **(kwargs or {}))


def states(device: str, dtype: torch.dtype, width: int = 64) -> list[Tensor]:
    """Queries of eight heads, keys and values of two."""
    torch.manual_seed(0)
    made = [torch.randn(1, heads, BOUNDS[-1], width) for heads in (8, 2, 2)]
    return [x.to(device, dtype).requires_grad_() for x in made]


def attended(inputs: list[Tensor], ends: Tensor | None) -> Tensor:
    return varlen_attention(torch.nn.Identity(), *inputs, None, scaling=0.1, cu_seq_lens_q=BOUNDS, ends=ends)[0]


@pytest.mark.parametrize("name", [name for name in MODELS if "moe" not in name])  # tokens choose experts by numbers
def test_on_a_device_every_layer_goes_through_the_kernel_forward_and_backward(name):
    of, meta = facts(name), torch.device("meta")
    with meta:
        model = build.build(config(name), of).train().to(torch.bfloat16)
    pack = on(collate(mixed(of), of), meta)
    with Calls() as calls:
        losses = model(pack)
        losses.sum().backward()
    layers = config(name).language.num_layers
    assert losses.shape == (pack.num_targets,) and losses.dtype == torch.float32
    assert calls.names["torch_attn::_varlen_attn"] == layers
    assert calls.names["torch_attn::_varlen_attn_backward"] == layers
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())


@pytest.mark.parametrize(
    ("device", "dtype", "width", "kernel"),
    [
        ("meta", torch.bfloat16, 128, True),
        ("meta", torch.float16, 256, True),
        ("meta", torch.float32, 64, False),
        ("meta", torch.bfloat16, 12, False),
        ("meta", torch.bfloat16, 264, False),
        ("cpu", torch.bfloat16, 64, False),
    ],
)
def test_the_kernel_gets_what_it_takes_and_the_pieces_the_rest(device, dtype, width, kernel):
    inputs = states(device, dtype, width)
    with Calls() as calls:
        found = attended(inputs, torch.tensor(BOUNDS, dtype=torch.int32, device=device))
    assert found.shape == (1, BOUNDS[-1], 8, width)
    assert (calls.names["torch_attn::_varlen_attn"] == 1) == kernel


def test_the_kernel_is_told_what_the_pieces_do():
    """Causal, each query's head with its group's keys, the scale of the model, and the longest sample as a number."""
    ends = torch.tensor(BOUNDS, dtype=torch.int32, device="meta")
    with Calls() as calls:
        attended(states("meta", torch.bfloat16), ends)
    told = {name: value for name, value in calls.given.items() if not isinstance(value, Tensor)}
    assert calls.given["cu_seq_q"] is calls.given["cu_seq_k"] is ends
    assert told == {"max_q": 59, "max_k": 59, "is_causal": True, "scale": 0.1, "window_size": [-1, 0]} | {
        "enable_gqa": True
    } | dict.fromkeys(told.keys() - {"max_q", "max_k", "is_causal", "scale", "window_size", "enable_gqa"})


@pytest.mark.parametrize("name", MODELS)
def test_a_pack_has_its_ends_as_a_kernel_reads_them_and_its_pixels_as_bytes(name):
    of = facts(name)
    pack = collate(mixed(of), of)
    assert pack.ends.dtype == torch.int32 and pack.ends.tolist() == pack.sample_ends
    assert pack.tiles.dtype == torch.uint8


def test_another_tensor_for_each_of_a_pack():
    """None is forgotten, those of the images neither: what is copied to a device, and what is pinned for it."""
    of = facts("llava")
    pack, seen = collate(mixed(of), of), []
    moved = each_tensor(pack, lambda tensor: seen.append(tensor) or tensor.to("meta"))
    tensors = [x for part in (moved, moved.images) for x in vars(part).values() if isinstance(x, Tensor)]
    assert len(seen) == len(tensors) == 9 and all(x.is_meta for x in tensors)
    assert moved.samples == pack.samples and moved.sample_ends == pack.sample_ends
    assert on(pack, torch.device("cpu")) is pack


@pytest.mark.parametrize("width", [pytest.param(width, marks=gpu) for width in (64, 72, 128)])
def test_the_kernel_is_the_pieces(width):
    """In bfloat16, against float64 by pieces on the CPU: outputs and gradients."""
    inputs = states("cuda", torch.bfloat16, width)
    exact = [x.detach().double().cpu().requires_grad_() for x in inputs]
    found, wanted = attended(inputs, torch.tensor(BOUNDS, dtype=torch.int32, device="cuda")), attended(exact, None)
    seed = torch.randn(wanted.shape, dtype=torch.float64)
    gradients = torch.autograd.grad(found, inputs, seed.to("cuda", torch.bfloat16))
    expected = torch.autograd.grad(wanted, exact, seed.bfloat16().double())
    for ours, theirs in zip((found, *gradients), (wanted, *expected), strict=True):
        assert (ours.detach().double().cpu() - theirs.detach()).abs().max() <= 0.02 * theirs.detach().abs().max()


@pytest.mark.parametrize("sample", [pytest.param(number, marks=gpu) for number in range(len(BOUNDS) - 1)])
def test_the_kernel_keeps_samples_apart_to_the_bit(sample):
    """Whatever stands in the others: its outputs stay, and no gradient reaches them."""
    inputs, ends = states("cuda", torch.bfloat16), torch.tensor(BOUNDS, dtype=torch.int32, device="cuda")
    start, end = list(pairwise(BOUNDS))[sample]
    other = [x.detach().clone().normal_(0, 50) for x in inputs]
    for ours, theirs in zip(other, inputs, strict=True):
        ours[:, :, start:end] = theirs.detach()[:, :, start:end]
    found = attended(inputs, ends)
    assert torch.equal(found[:, start:end], attended(other, ends)[:, start:end])
    for gradient in torch.autograd.grad(found[:, start:end].float().square().sum(), inputs):
        assert not gradient[:, :, :start].any() and not gradient[:, :, end:].any()


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in MODELS])
def test_packed_is_one_by_one_on_a_gpu(name):
    of, device = facts(name), torch.device("cuda")
    model = build.build(config(name), of).train().to(device, torch.bfloat16)
    samples = mixed(of)
    with torch.no_grad():
        packed = model(on(collate(samples, of), device))
        apart = torch.cat([model(on(collate([sample], of), device)) for sample in samples])
    assert torch.allclose(packed, apart, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in ("llava", "jina", "internvl_siglip")])
def test_the_host_waits_for_nothing_in_a_pack(name):
    """From pinned memory to the gradients."""
    of, device = facts(name), torch.device("cuda")
    model = build.build(config(name), of).train().to(device, torch.bfloat16)
    pack: Pack = each_tensor(collate(mixed(of), of), Tensor.pin_memory)
    model(on(pack, device)).sum().backward()  # what is made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        model(on(pack, device)).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
