"""New tokens over the slab: the kernel's way beside the masked one, its oracle.

On the meta device the kernel has shapes and no numbers; its documented meaning, written out, has numbers on a CPU; what
needs a GPU is marked `gpu` and leaves itself out elsewhere.
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from test_train_attention import Calls, gpu
from test_train_engine import model_of, requests_of, run, samples_of
from tiny_models import config, facts
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from train.inference import slab as slab_module
from train.inference.engine import Engine
from train.inference.slab import Slab
from train.models import build

SLOTS, HEADS, KEYS, WIDTH = 5, 8, 2, 64
DECODER = SimpleNamespace(head_dim=WIDTH, num_key_value_heads=KEYS, num_hidden_layers=1)
LENGTHS = [3, 40, 1, 17]


def filled(device, dtype):
    """A slab with prompts of several lengths in all slots but the last, and numbers beyond them."""
    torch.manual_seed(0)
    slab = Slab(DECODER, SLOTS, torch.device(device), dtype)
    slab.reserve(50)
    for layer in (*slab._keys, *slab._values):
        layer.normal_()
    slab.prompts(range(len(LENGTHS)), LENGTHS)
    new = [torch.randn(1, KEYS, sum(LENGTHS), WIDTH).to(device, dtype) for _ in "kv"]
    slab.write(0, *new)
    return slab


def asked(slab, device, dtype):
    """Queries of the next tokens, whose keys and values are written."""
    positions = slab.tokens(len(LENGTHS))
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, heads, SLOTS, WIDTH)[:, :, : len(positions)] for heads in (HEADS, KEYS, KEYS))
    q, k, v = (x.to(device, dtype) for x in (q, k, v))
    slab.write(0, k, v)
    return q


def masked(device, dtype):
    slab = filled(device, dtype)
    slab.fixed = False
    found = slab.attend(0, asked(slab, device, dtype), 0.1)
    assert found is not None
    return found[0]


def documented(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, enable_gqa, seqused_k, num_splits):
    """What torch says of varlen_attn: sequence by sequence, of each the first `seqused_k` keys."""
    found = []
    for number, ((start, end), (first, last)) in enumerate(
        zip(pairwise(cu_seq_q.tolist()), pairwise(cu_seq_k.tolist()), strict=True)
    ):
        held = int(seqused_k[number])
        assert end - start <= max_q and held <= last - first <= max_k
        one = [x.transpose(0, 1)[None] for x in (q[start:end], k[first : first + held], v[first : first + held])]
        found.append(scaled_dot_product_attention(*one, scale=scale, enable_gqa=enable_gqa)[0].transpose(0, 1))
    return torch.cat(found)


def test_what_the_kernel_is_told_means_what_the_mask_means(monkeypatch):
    wanted, slab = masked("cpu", torch.float32), filled("cpu", torch.float32)
    slab.fixed = True
    monkeypatch.setattr(slab_module, "varlen_attn", documented)
    found = slab.attend(0, asked(slab, "cpu", torch.float32), 0.1)
    assert found.shape == (1, SLOTS, HEADS, WIDTH)  # idle slots are computed, too
    assert (found[0, : len(LENGTHS)] - wanted).abs().max() < 1e-6


def test_the_kernel_takes_what_it_is_told():
    slab = filled("meta", torch.bfloat16)
    assert slab.fixed
    with Calls() as calls:
        found = slab.attend(0, asked(slab, "meta", torch.bfloat16), 0.1)
    assert found.shape == (1, SLOTS, HEADS, WIDTH) and calls.names["torch_attn::_varlen_attn"] == 1
    told = {name: value for name, value in calls.given.items() if value is not None}
    tensors = {name: (*value.shape, value.dtype) for name, value in told.items() if isinstance(value, Tensor)}
    pool = (SLOTS * slab.length, KEYS, WIDTH, torch.bfloat16)
    assert tensors == {
        **{"query": (SLOTS, HEADS, WIDTH, torch.bfloat16), "key": pool, "value": pool},
        **{"cu_seq_q": (SLOTS + 1, torch.int32), "cu_seq_k": (SLOTS + 1, torch.int32)},
        "seqused_k": (SLOTS, torch.int32),
    }
    assert {name: value for name, value in told.items() if name not in tensors} == {
        **{"max_q": 1, "max_k": slab.length, "is_causal": False, "scale": 0.1, "window_size": [-1, -1]},
        **{"enable_gqa": True, "num_splits": 1},
    }


@pytest.mark.parametrize("name", ["llava", "jina"])
def test_on_a_device_every_layer_of_a_step_goes_through_the_kernel(name):
    of, meta = facts(name), torch.device("meta")
    with meta:
        model = build.build(config(name), of).eval().to(torch.bfloat16)
    slab = Slab(model.language.config, SLOTS, meta, torch.bfloat16)
    slab.reserve(30)
    slab.prompts([0, 1], [9, 4])
    with Calls() as calls, torch.no_grad():
        row = model.embedding(torch.zeros(1, 13, dtype=torch.long, device=meta))
        model.next_logits(row, torch.zeros(1, 13, dtype=torch.long, device=meta), [0, 9, 13], slab)
        before = calls.names["torch_attn::_varlen_attn"]
        positions = slab.tokens(2)
        row = model.embedding(torch.zeros(1, SLOTS, dtype=torch.long, device=meta))
        logits = model.next_logits(row, positions[None], [*range(SLOTS + 1)], slab)
    assert len(logits) == len(positions) == SLOTS
    assert calls.names["torch_attn::_varlen_attn"] - before == model.language.config.num_hidden_layers


@pytest.mark.parametrize("dtype", [pytest.param(dtype, marks=gpu) for dtype in (torch.bfloat16, torch.float16)])
def test_the_kernel_is_the_mask(dtype):
    slab = filled("cuda", dtype)
    found = slab.attend(0, asked(slab, "cuda", dtype), 0.1)[0, : len(LENGTHS)]
    wanted = masked("cuda", dtype)
    assert (found.float() - wanted.float()).abs().max() < 0.02 * wanted.float().abs().max()
    assert torch.isfinite(slab.attend(0, torch.randn(1, HEADS, SLOTS, WIDTH, device="cuda", dtype=dtype), None)).all()


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in ("llava", "jina")])
def test_answers_by_the_kernel_are_those_by_the_mask(name):
    """In bfloat16, where a tie may fall to either side: most tokens are the same."""
    of, model = facts(name), model_of(name).to("cuda", torch.bfloat16)
    samples, lengths = samples_of(of), [3, 9, 1, 7, 12, 5, 2, 8, 4]
    kernel, mask = Engine(model, of, 3), Engine(model, of, 3)
    assert kernel.slab.fixed
    mask.slab.fixed = False
    ours, theirs = (run(engine, requests_of(samples, of, lengths))[0] for engine in (kernel, mask))
    pairs = [(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)]
    assert sum(a == b for a, b in pairs) > 0.8 * len(pairs)
