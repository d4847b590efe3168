"""FLOPs by part: torch's own counter on every family, and the published systems in their real sizes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_train_families import made
from tiny_models import MODELS, config, facts, mixed
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from schemas import strict
from stages.tiles.jina import Jina
from stages.tiles.llava15 import Llava15Square
from stages.tiles.llmjp4vl import LlmJp4VL
from train.config import ModelConfig, OptimiserConfig
from train.data.collate import collate
from train.models import build, flops

CLIP_L = {"hidden_size": 1024, "num_layers": 24, "num_heads": 16, "intermediate_size": 4096}
SO400M = {"hidden_size": 1152, "num_layers": 27, "num_heads": 16, "intermediate_size": 4304}
QWEN3_4B = {
    "hidden_size": 2560,
    "num_layers": 36,
    "num_heads": 32,
    "num_kv_heads": 8,
    "head_dim": 128,
    "intermediate_size": 9728,
    "vocab_size": 151936,
}
QWEN3_2B = {
    "hidden_size": 2048,
    "num_layers": 28,
    "num_heads": 16,
    "num_kv_heads": 8,
    "head_dim": 128,
    "intermediate_size": 6144,
    "vocab_size": 151936,
    "extra_vocab_size": 128,
    "tie_embeddings": False,
}
LLM_JP_4 = {
    "architecture": "llama",
    "hidden_size": 4096,
    "num_layers": 32,
    "num_heads": 32,
    "num_kv_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 196608,
    "tie_embeddings": False,
}
LLM_JP_32B = {
    "architecture": "qwen3_moe",
    "hidden_size": 2560,
    "num_layers": 32,
    "num_heads": 40,
    "num_kv_heads": 4,
    "head_dim": 128,
    "intermediate_size": 960,
    "num_experts": 128,
    "experts_per_token": 8,
    "vocab_size": 196608,
    "tie_embeddings": False,
}


def real(family, vision, language, scheme):
    model = strict.build(ModelConfig, {"family": family, "vision": vision, "language": language, "init_seed": 0})
    of = dataclasses.replace(facts(family), scheme=scheme)
    with torch.device("meta"):
        shell = build.build(model, of)
    return flops.count(shell, model, of), flops.parameters(shell)


@pytest.mark.parametrize("name", MODELS)
def test_torch_counts_the_same(name):
    """But for the pairs that a causal mask leaves out, which torch counts too."""
    of, samples, model = facts(name), mixed(facts(name)), made(name)
    pack = collate(samples, of)
    lengths = [len(each.input_ids) for each in samples]
    found = flops.count(model, config(name), of)
    ours = sum(found.parts(lengths, pack.num_targets, len(pack.tiles)).values())
    ours += found.pair * sum(length * (length - 1) // 2 for length in lengths)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(pack)
    assert counter.get_total_flops() == pytest.approx(ours, rel=1e-9)


@pytest.mark.parametrize(
    ("family", "vision", "language", "scheme"),
    [
        ("llava", CLIP_L, QWEN3_4B, Llava15Square()),
        ("internvl_siglip", SO400M, LLM_JP_32B, LlmJp4VL()),
        ("jina", SO400M, QWEN3_2B, Jina()),
    ],
    ids=["llava", "internvl_siglip", "jina"],
)
def test_the_costs_of_the_planner_are_these_but_for_attention_and_head(family, vision, language, scheme):
    found, _ = real(family, vision, language, scheme)
    section = {"family": family, "vision": vision, "language": language, "init_seed": 0}
    of = strict.build(ModelConfig, section)
    settings = OptimiserConfig("adamw", 1e-4, 0.0, 1.0, "cosine", warmup_steps=0)
    costs = build.costs(of, dataclasses.replace(facts(family), scheme=scheme), settings)
    assert costs[0] == pytest.approx(3 * found.token, rel=1e-3)
    assert costs[1] == pytest.approx(3 * (found.tile_vision + found.tile_projector), rel=0.15)


def test_vqwen3_in_its_real_sizes():
    found, sizes = real("llava", CLIP_L, QWEN3_4B, Llava15Square())
    assert sizes["projector"] == 9_180_160
    first = found.parts([595], 19, 1)  # stage 1: one image and a short caption
    assert first["vision"] / 1e12 == pytest.approx(0.366, abs=0.001)
    assert found.token == 2 * 3_633_315_840 and found.target == 2 * 388_956_160
    assert first["language"] / 1e12 == pytest.approx(4.324 + 0.313 / 3, abs=0.002)


def test_llm_jp_4_vl_in_its_real_sizes():
    found, sizes = real("internvl_siglip", SO400M, LLM_JP_4, LlmJp4VL())
    assert sizes["projector"] == 35_668_992 and sizes["language"] == 8_590_200_832
    assert found.token / 2 == pytest.approx(6.979e9, rel=1e-3)
    assert 3 * found.tile_vision * 5 / 1e12 == pytest.approx(14.6, abs=0.1)


def test_the_mixture_of_experts_in_its_real_sizes():
    found, sizes = real("internvl_siglip", SO400M, LLM_JP_32B, LlmJp4VL())
    assert sizes["language"] == pytest.approx(32_139_028_992, rel=1e-9)
    assert found.token / 2 == pytest.approx(3_827_476_992 - 2 * 196608 * 2560, rel=1e-3)


def test_jina_vlm_in_its_real_sizes():
    found, sizes = real("jina", SO400M, QWEN3_2B, Jina())
    assert sizes["projector"] == pytest.approx(36.0e6, rel=0.01)
    assert found.token == 2 * 1_409_286_144 and found.target == 2 * 151_936 * 2048
    whole = 3 * sum(found.parts([1744 + 300], 120, 13).values())
    assert 790e12 / whole == pytest.approx(17.9, abs=0.6)  # samples/s at 790 TFLOP/s
