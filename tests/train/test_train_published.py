"""A model written under published names comes back bit by bit, in another process too, and other programs read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_train_families import made
from tiny_models import LAYERS, MODELS, config, facts, mixed
from transformers import LlavaForConditionalGeneration

from train.data.collate import collate
from train.models import build, pretrained, published
from train.models.jina_names import unfold
from train.models.lazy import WeightsError

SCRIPT = """
import sys, torch
sys.path.insert(0, "tests/train")
from tiny_models import config, facts, mixed
from train.data.collate import collate
from train.models import build, pretrained
for name in sys.argv[2:]:
    model = config(name, **{"from": f"{sys.argv[1]}/{name}", "init_seed": 77})
    made = build.build(model, facts(name))
    pretrained.load(made, model, facts(name))
    print(made(collate(mixed(facts(name)), facts(name))).sum().item().hex())
"""


def reloaded(name, folder, **changes):
    model = config(name, **{"from": str(folder), "init_seed": 77, **changes})
    again = build.build(model, facts(name))
    pretrained.load(again, model, facts(name))
    return again


def whole(name):
    """A model with weights of unread layers, as a pretrained one has."""
    model = made(name)
    if not name.startswith("internvl"):
        layer = {k: v for k, v in model.state_dict().items() if k.startswith("vision.encoder.layers.0.")}
        for number in range(len(model.vision.encoder.layers), LAYERS.get(name, 3)):
            model.unread |= {k.replace("layers.0", f"layers.{number}"): torch.randn_like(v) for k, v in layer.items()}
        model.unread |= {f"vision.post_layernorm.{kind}": torch.randn(24) for kind in ("weight", "bias")}
    return model


@pytest.mark.parametrize("make", [whole, made])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_comes_back_bit_by_bit(name, make, tmp_path):
    model = make(name)
    published.save(tmp_path / "model", model, config(name), facts(name))
    again = reloaded(name, tmp_path / "model")
    assert model.state_dict().keys() == again.state_dict().keys() and model.unread.keys() <= again.unread.keys()
    for one, other in ((model.state_dict(), again.state_dict()), (model.unread, again.unread)):
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items())


def test_another_process_computes_the_same_bits(tmp_path):
    wanted = []
    for name in MODELS:
        model = whole(name)
        published.save(tmp_path / name, model, config(name), facts(name))
        wanted.append(model(collate(mixed(facts(name)), facts(name))).sum().item().hex())
    run = [sys.executable, "-c", SCRIPT, str(tmp_path), *MODELS]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.split() == wanted


@pytest.mark.parametrize("drawn", [True, False])
def test_transformers_reads_a_llava_without_anything_missing(tmp_path, drawn):
    model, of = made("llava") if drawn else whole("llava"), facts("llava")
    published.save(tmp_path / "model", model, config("llava"), of)
    theirs, told = LlavaForConditionalGeneration.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    pack = collate([mixed(of)[2]], of)
    scale = torch.tensor([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])
    mean, std = scale[:, None, :, None, None]
    pixels = (pack.tiles.permute(0, 3, 1, 2) / 255.0 - mean) / std
    given = {"input_ids": pack.input_ids, "pixel_values": pixels, "labels": pack.labels, "use_cache": False}
    assert theirs(**given).loss.item() * pack.num_targets == pytest.approx(model(pack).sum().item(), rel=1e-5)


def test_published_names():
    """Of every family some names as its checkpoints have them."""
    wanted = {
        "internvl_siglip": {
            "vision_backbone.vision_model.encoder.layers.0.self_attn.q_proj.weight",
            "vision_backbone.vision_model.post_layernorm.bias",
            *(f"mlp1.{number}.{kind}" for number in (0, 1, 3) for kind in ("weight", "bias")),
            "language_model.model.layers.1.mlp.gate_proj.weight",
        },
        "llava": {
            "vision_tower.vision_model.embeddings.class_embedding",
            "vision_tower.vision_model.pre_layrnorm.weight",
            "multi_modal_projector.linear_2.bias",
            "language_model.model.embed_tokens.weight",
        },
        "jina": {
            "model.vision_model.patch_embed.proj.weight",
            "model.vision_model.layers.9.attn.qkv_w.weight",
            "model.vision_model.vl_connector.pooling.kv_w.weight",
            "model.vision_model.vl_connector.pooling.k_b",
            "model.language_model.embedding.new_embedding",
            "model.language_model.layers.0.attn.q_b",
            "lm_head.weight",
        },
        "internvl_siglip+qwen3_moe": {"language_model.model.layers.1.mlp.experts.3.gate_proj.weight"},
        "internvl_siglip+llama": {"language_model.lm_head.weight"},
    }
    for name in MODELS:
        found = published.names(whole(name), config(name))
        assert wanted[name] <= found.keys(), wanted[name] - found.keys()
        assert not [key for key in found if key.startswith(("vision.", "projector.", "language."))]
    assert "language_model.lm_head.weight" not in published.names(made("llava"), config("llava"))


def test_jinas_matrices_are_cut_where_its_code_cuts_them():
    model = whole("jina")
    ours, theirs = model.state_dict(), unfold({**model.state_dict(), **model.unread}, config("jina"))
    layer = "language.model.layers.1."
    q, k, v = theirs["model.language_model.layers.1.attn.qkv_w.weight"].split([32, 16, 16])
    for kind, part in (("q", q), ("k", k), ("v", v)):
        assert torch.equal(part, ours[f"{layer}self_attn.{kind}_proj.weight"])
    value, gate = theirs["model.language_model.layers.1.ffn.up.weight"].chunk(2)
    assert torch.equal(gate, ours[f"{layer}mlp.gate_proj.weight"])
    assert torch.equal(value, ours[f"{layer}mlp.up_proj.weight"])
    assert theirs["model.language_model.embedding.embedding"].shape == (30, 32)
    assert theirs["model.language_model.embedding.new_embedding"].shape == (10, 32)
    pixels = torch.randn(3, 4, 4)
    by_patch = theirs["model.vision_model.patch_embed.proj.weight"] @ pixels.permute(1, 2, 0).flatten()
    by_convolution = (ours["vision.embeddings.patch_embedding.weight"] * pixels).sum((1, 2, 3))
    assert torch.allclose(by_patch, by_convolution, atol=1e-5)


def test_a_bias_that_qwen3_has_no_place_for_is_refused(tmp_path):
    published.save(tmp_path / "model", whole("jina"), config("jina"), facts("jina"))
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    weights["model.language_model.layers.0.attn.k_b"][3] = 1
    save_file(weights, path)
    with pytest.raises(WeightsError, match=r"has model\.language_model\.layers\.0\.attn\.k_b, which nothing"):
        reloaded("jina", tmp_path / "model")


@pytest.mark.parametrize("name", MODELS)
def test_every_missing_or_strange_weight_of_a_checkpoint_is_refused(name, tmp_path):
    """Each one in turn is taken away, and each is given a name that nobody knows."""
    published.save(tmp_path / "model", whole(name), config(name), facts(name))
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    # What nothing reads, and the biases that Qwen3 has not, may lack
    free = re.compile(r".*post_l.*norm\.\w+|model\.language_model\..*\.attn\.[qkv]_b")
    for key in sorted(weights)[:: max(1, len(weights) // 12)]:
        save_file({**weights, f"{key}_2": weights[key].clone()}, path)
        with pytest.raises(WeightsError, match=rf"model\.from: .* has {re.escape(key)}_2"):
            reloaded(name, tmp_path / "model")
        if free.fullmatch(key) and not name.startswith("internvl"):
            continue
        save_file({k: w for k, w in weights.items() if k != key}, path)
        with pytest.raises(WeightsError, match=r"model\.from: .* (lacks|has) "):
            reloaded(name, tmp_path / "model")


def test_what_config_json_says_is_compared_when_it_is_read_again(tmp_path):
    published.save(tmp_path / "model", whole("llava"), config("llava"), facts("llava"))
    told = json.loads((tmp_path / "model" / "config.json").read_text())
    told["vision_config"]["hidden_act"] = "gelu"
    (tmp_path / "model" / "config.json").write_text(json.dumps(told))
    with pytest.raises(WeightsError, match="its hidden_act is gelu, the config's vision has quick_gelu"):
        reloaded("llava", tmp_path / "model")
