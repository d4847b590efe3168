"""First weights from folders: strict in names, shapes and settings; tables grow by their mean; what is unread stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import LANGUAGE, config, facts, mixed
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from train.data.collate import collate
from train.models import build, pretrained
from train.models.lazy import WeightsError
from train.models.vision_language import VisionLanguage

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
QWEN3 = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rope_parameters": ROPE,
    "tie_word_embeddings": True,
}
TOWER = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SEEN = {"image_size": 16, "patch_size": 4}


def qwen3(folder: Path, rows: int = 34, **changes: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    Qwen3ForCausalLM(Qwen3Config(vocab_size=rows, intermediate_size=48, **{**QWEN3, **changes})).save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def clip(folder: Path) -> dict[str, torch.Tensor]:
    """Both towers, as published."""
    torch.manual_seed(8)
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config={**TOWER, **SEEN})).save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def filled(name: str, **changes: Any) -> VisionLanguage:
    model = config(name, **changes)
    made = build.build(model, facts(name))
    pretrained.load(made, model, facts(name))
    return made


def language(folder: Path | None, **changes: Any) -> dict[str, Any]:
    given = {"from": str(folder)} if folder else {}
    return {"language": {**LANGUAGE, "head_dim": 16, **given, **changes}}


def vision(folder: Path, **changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 24, "num_layers": 3, "num_heads": 2, "intermediate_size": 32}
    return {"vision": {**sizes, "from": str(folder), **changes}}


def test_a_decoder_is_filled_in_whole_and_the_rest_is_as_drawn(tmp_path):
    theirs = qwen3(tmp_path)
    made, drawn = filled("llava", **language(tmp_path)), build.build(config("llava"), facts("llava"))
    for name, tensor in made.state_dict().items():
        if name.startswith("language."):
            there = name.removeprefix("language.")
            assert torch.equal(tensor, theirs["model.embed_tokens.weight" if there == "lm_head.weight" else there])
        else:
            assert torch.equal(tensor, drawn.state_dict()[name])
    assert made.language.lm_head.weight is made.decoder.embed_tokens.weight


def test_a_tower_of_clip_is_filled_in_and_its_unread_layer_kept(tmp_path):
    theirs = clip(tmp_path)
    assert any(name.startswith("text_model.") for name in theirs)
    made = filled("llava", **vision(tmp_path))
    assert len(made.vision.encoder.layers) == 2
    own = {name: tensor for name, tensor in made.state_dict().items() if name.startswith("vision.")} | made.unread
    wanted = {name: tensor for name, tensor in theirs.items() if name.startswith("vision_model.")}
    assert {name.replace("vision.", "vision_model.", 1) for name in own} == wanted.keys()
    assert all(torch.equal(tensor, theirs[name.replace("vision.", "vision_model.", 1)]) for name, tensor in own.items())
    kept = {name.rpartition("layers.")[2][0] for name in made.unread if "layers." in name}
    assert kept == {"2"} and "vision.post_layernorm.weight" in made.unread
    assert not {name for name, _ in made.named_parameters()} & made.unread.keys()


def test_the_head_of_siglip_is_kept_unread(tmp_path):
    torch.manual_seed(3)
    SiglipVisionModel(SiglipVisionConfig(**TOWER, **SEEN)).save_pretrained(tmp_path)
    made = filled("internvl_siglip", **vision(tmp_path))
    assert {name.split(".")[1] for name in made.unread} == {"head"} and len(made.vision.encoder.layers) == 3


def test_the_experts_are_filled_in(tmp_path):
    torch.manual_seed(3)
    moe = {**QWEN3, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True}
    theirs = Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=34, moe_intermediate_size=48, **moe))
    theirs.save_pretrained(tmp_path)
    on_disk = load_file(tmp_path / "model.safetensors")
    assert "model.layers.1.mlp.experts.3.up_proj.weight" in on_disk
    own = {**LANGUAGE, "architecture": "qwen3_moe", "num_experts": 4, "experts_per_token": 2, "from": str(tmp_path)}
    made = filled("internvl_siglip", language=own)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, made.state_dict()[f"language.{name}"]), name
    del on_disk["model.layers.1.mlp.experts.2.up_proj.weight"]
    save_file(on_disk, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"has model\.layers\.1\.mlp\.experts\.0\.down_proj\.weight and 10 more"):
        filled("internvl_siglip", language=own)


def test_rows_of_new_tokens_are_the_mean_of_the_others(tmp_path):
    theirs = qwen3(tmp_path, rows=30)["model.embed_tokens.weight"]
    for tie in (True, False):
        made = filled("llava", **language(tmp_path, tie_embeddings=tie))
        for table in (made.decoder.embed_tokens.weight, made.language.lm_head.weight):
            assert table.shape[0] == 34 and torch.equal(table[:30], theirs)
            assert torch.allclose(table[30:], theirs.mean(0).expand(4, -1), atol=1e-7)


def test_a_head_of_its_own_begins_as_the_embedding(tmp_path):
    """jina-vlm's: 30 rows, where the embedding has ten more for images."""
    theirs = qwen3(tmp_path, rows=30, head_dim=8)["model.embed_tokens.weight"]
    made = filled("jina", language={**LANGUAGE, "tie_embeddings": False, "extra_vocab_size": 4, "from": str(tmp_path)})
    assert torch.equal(made.language.lm_head.weight, theirs) and made.decoder.embed_tokens.weight.shape[0] == 34
    assert torch.equal(made.decoder.embed_tokens.weight[:30], theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.norm.weight"), r"lacks language\.model\.norm\.weight, which the model has"),
        (lambda w: w.update({"model.layers.2.extra": torch.ones(1)}), r"has model\.layers\.2\.extra, which nothing"),
        (lambda w: w.update({"model.norm.weight": torch.ones(31)}), r"model\.norm\.weight is \[31\], wanted \[32\]"),
        (lambda w: w.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}), r"holds no floats"),
        (lambda w: w.update({"lm_head.weight": torch.ones(34, 32)}), r"its head is not its embedding; set model"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(tmp_path, change, message):
    weights = qwen3(tmp_path)
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=message) as error:
        filled("llava", **language(tmp_path))
    assert str(error.value).startswith("model.language.from: ") and str(error.value).count("\n") == 0


def test_fewer_rows_than_the_weights_have_are_refused(tmp_path):
    qwen3(tmp_path, rows=40)
    with pytest.raises(WeightsError, match=r"is \[40, 32\], wanted \[34, 32\].*; set model\.language\.vocab_size"):
        filled("llava", **language(tmp_path))
    assert filled("llava", **language(tmp_path, vocab_size=40)).decoder.embed_tokens.weight.shape[0] == 40


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "rope_parameters",
            {**ROPE, "rope_theta": 1e6},
            r"its rope_theta is 1000000\.0, the config's language has 100",
        ),
        ("rope_parameters", {**ROPE, "rope_type": "yarn"}, "its rotation is of type yarn"),
        ("rms_norm_eps", 1e-5, "its rms_norm_eps is 1e-05"),
        ("model_type", "llama", "its model_type is llama"),
    ],
)
def test_settings_that_no_shape_shows_are_compared(tmp_path, key, value, message):
    qwen3(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(WeightsError, match=message):
        filled("llava", **language(tmp_path))


def test_a_tower_of_another_depth_is_refused(tmp_path):
    """Its shapes would fit: but LLaVA's last layer but one would be another."""
    theirs = {name: tensor for name, tensor in clip(tmp_path).items() if "layers.2" not in name}
    save_file(theirs, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"lacks vision\.encoder\.layers\.2\."):
        filled("llava", **vision(tmp_path))
    clip(tmp_path)
    with pytest.raises(WeightsError, match=r"its num_hidden_layers is 3, the config's vision has 2"):
        filled("llava", **vision(tmp_path, num_layers=2))
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"has vision_model\.encoder\.layers\.2\."):
        filled("llava", **vision(tmp_path, num_layers=2))


@pytest.mark.parametrize("there", ["nothing", "index", "hostile"])
def test_a_folder_without_weights_is_one_line(tmp_path, there):
    if there != "nothing":
        name = "../secret.safetensors" if there == "hostile" else "model-1.safetensors"
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    with pytest.raises(WeightsError, match=r"^model\.language\.from: .*(is no folder|missing)"):
        filled("llava", **language(tmp_path / "in"))


def test_weights_in_several_files_are_read(tmp_path):
    theirs = qwen3(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    names = sorted(theirs)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for file, some in parts.items():
        save_file({name: theirs[name] for name in some}, tmp_path / file)
    index = {"weight_map": {name: file for file, some in parts.items() for name in some}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    made = filled("llava", **language(tmp_path))
    assert torch.equal(made.decoder.norm.weight, theirs["model.norm.weight"])
    before = pretrained.identity(config("llava", **language(tmp_path)))
    save_file({name: theirs[name] + 1 for name in parts["b.safetensors"]}, tmp_path / "b.safetensors")
    assert pretrained.identity(config("llava", **language(tmp_path))) != before


def test_a_lost_head_is_no_tied_one(tmp_path):
    """Weights without a head, of a model that has one: the embedding must not take its place in silence."""
    theirs = qwen3(tmp_path, tie_word_embeddings=False)
    del theirs["lm_head.weight"]
    save_file(theirs, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"has no head, and its config\.json doesn't say that the embedding is it"):
        filled("llava", **language(tmp_path, tie_embeddings=False))


def test_two_names_of_one_weight_are_refused(tmp_path):
    theirs = clip(tmp_path)
    bias = theirs["vision_model.pre_layrnorm.bias"]
    save_file({**theirs, "pre_layrnorm.bias": bias + 1}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"are both vision\.pre_layrnorm\.bias; delete one"):
        filled("llava", **vision(tmp_path))


def llava(vocab_size: int = 34) -> LlavaForConditionalGeneration:
    torch.manual_seed(9)
    text = Qwen3Config(vocab_size=vocab_size, intermediate_size=48, **QWEN3)
    vision = CLIPVisionConfig(**TOWER, **SEEN)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=30, image_seq_length=16)
    return LlavaForConditionalGeneration(config).eval()


def test_a_whole_llava_of_transformers_gives_its_logits_losses_and_gradients(tmp_path):
    """Written by transformers, read by us, in both layouts: CLS, layer -2, the projector and the order of tokens."""
    theirs = llava()
    for original in (True, False):
        theirs.save_pretrained(tmp_path, save_original_format=original)
        made = filled("llava", **{"from": str(tmp_path)})
        made.zero_grad()
        theirs.zero_grad()
        for each in mixed(facts("llava")):
            pack = collate([each], facts("llava"))
            pixels = None
            if len(pack.tiles):
                scale = torch.tensor([[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]])
                mean, std = scale[:, None, :, None, None]
                pixels = (pack.tiles.permute(0, 3, 1, 2) / 255.0 - mean) / std
            given = {"input_ids": pack.input_ids, "pixel_values": pixels, "labels": pack.labels, "use_cache": False}
            wanted = theirs(**given).loss * pack.num_targets
            ours = made(pack).sum()
            assert ours.item() == pytest.approx(wanted.item(), rel=1e-5)
            wanted.backward()
            ours.backward()
        compared = 0
        for name, parameter in theirs.named_parameters():
            own = name.replace("model.vision_tower.", "vision.").replace("model.language_model.", "language.model.")
            for number, place in ((1, 0), (2, 2)):
                own = own.replace(f"model.multi_modal_projector.linear_{number}.", f"projector.{place}.")
            if "layers.2." in own or "post_layernorm" in own:
                assert parameter.grad is None or not parameter.grad.any()
                continue
            gradient = dict(made.named_parameters())[own].grad
            assert (gradient - parameter.grad).abs().max() <= 1e-5 * parameter.grad.abs().max() + 1e-6, name
            compared += 1
        assert compared == len([*made.parameters()])
