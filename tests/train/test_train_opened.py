"""Every kind of place gives the same model; what is no model, or none that we can represent, is one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch
import yaml
from test_train_families import made
from tiny_models import config as tiny
from tiny_models import facts as tiny_facts
from tiny_shards import CONFIG, TOKENS, merged, write_tokenizer

from stages.chat import ChatFormat, ImageTokens
from stages.chat_rules import ChatRules
from stages.tiles.llava15 import Llava15Pad, Llava15Square
from stages.tiles.llmjp4vl import LlmJp4VL
from train import checkpoint, config, trainer
from train.data.shards import Facts
from train.inference.errors import OpenError
from train.inference.opened import EXPORTED, opened
from train.models import build, published
from train.models.lazy import WeightsError

SHORT = {"data.epochs": 1, "run.checkpoint_every": 1000}
TEXTS = ["Which colour?", "red blue green", "何色?"]


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    """The config and the folder of a short run with adapters."""
    folder = tmp_path_factory.mktemp("run")
    path = folder / "config.yaml"
    lora = {"model.lora": {"rank": 2, "alpha": 8.0}, "optimiser.matrices": "adamw"}
    changes = {"data.shards": str(shards), "run.out": str(folder / "run"), **SHORT, **lora}
    path.write_text(yaml.safe_dump(merged(CONFIG, **changes)))
    trainer.fit(config.load(path))
    return path, folder / "run"


def export(folder, of, **changes):
    """What an export of ours is."""
    published.save(folder, of.model, of.config, of.facts)
    of.chat.save(folder)
    told = {"version": 1, "model": checkpoint.described(of.config), "facts": asdict(of.facts), **changes}
    (folder / EXPORTED).write_text(json.dumps(told))
    return folder


def equal(one, other):
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_every_place_of_a_run_gives_its_newest_checkpoint(run, tmp_path):
    path, out = run
    found = opened(path)
    step = next(out.glob("step-*"))
    assert found.name == f"run/{step.name}" and found.folder == step
    assert all(equal(found, opened(place)) for place in (out, step, str(step)))
    moved = opened(shutil.copytree(step, tmp_path / "other" / step.name))
    assert moved.identity["content"] == found.identity["content"] and equal(found, moved)


def test_adapters_are_merged(run):
    found = opened(run[0])
    record = checkpoint.read(found.folder)
    with_adapters = build.build(config.load(run[0]).model, found.facts)
    checkpoint.load(found.folder, with_adapters)
    assert record.identity["model"]["lora"] and found.config.lora is None
    name = "decoder.layers.0.self_attn.q_proj"
    theirs, ours = with_adapters.get_submodule(name), found.model.get_submodule(name)
    assert type(ours) is torch.nn.Linear and torch.equal(ours.weight, theirs.merged())
    assert not torch.equal(ours.weight, theirs.weight)


def test_an_export_of_ours_gives_the_same_model(run, tmp_path):
    found = opened(run[0])
    again = opened(export(tmp_path / "exported", found, context=77))
    assert equal(found, again) and again.config == found.config and again.facts == found.facts
    assert (again.context, found.context) == (77, CONFIG["data"]["max_tokens_per_pack"])
    assert again.stops == found.stops == {found.chat.tokenizer.eos_token_id}


def test_stops_of_the_models_generation_config_count(run, tmp_path):
    folder = export(tmp_path / "exported", opened(run[0]))
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0]}')
    assert opened(folder).stops == {0, 2}


def llava(folder, **processor):
    """An upstream folder of LLaVA's shape."""
    chat = write_tokenizer(folder.with_name("tokenizer"), TEXTS)
    of = tiny_facts("llava")
    section = tiny("llava")
    section = replace(section, language=replace(section.language, vocab_size=chat.vocab_size + 5))
    ours = Facts(of.scheme, chat.image_tokens, chat._rules, chat.image_token_id, chat.vocab_size, of.fingerprints)
    model = build.build(section, ours)
    published.save(folder, model, section, ours)
    chat.save(folder)
    told = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, **processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder, model


@pytest.mark.parametrize(("pad", "scheme"), [(True, Llava15Pad), (False, Llava15Square)])
def test_an_upstream_llava_is_read_by_our_classes(tmp_path, pad, scheme):
    folder, model = llava(tmp_path / "llava", do_pad=pad)
    found = opened(folder)
    assert found.facts.scheme == scheme(tile=16, patch=4) and found.facts.tokens.image == TOKENS.image
    assert found.config.language.tie_embeddings and found.config.language.head_dim == 16
    theirs = dict(model.named_parameters())
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in found.model.named_parameters())


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("text_config.model_type", "mistral", "text_config.model_type is mistral"),
        ("text_config.attention_bias", True, "its attention_bias is True"),
        ("vision_config.model_type", "siglip_vision_model", "vision_config.model_type is siglip"),
        ("vision_feature_select_strategy", "full", "select_strategy is full"),
        ("image_token_index", 9999, "no token 9999"),
        ("model_type", "qwen2_vl", "of a model 'qwen2_vl'"),
    ],
)
def test_what_our_classes_can_not_represent_is_one_line(tmp_path, key, value, told):
    folder, _ = llava(tmp_path / "llava")
    found = json.loads((folder / "config.json").read_text())
    *section, name = key.split(".")
    (found[section[0]] if section else found)[name] = value
    (folder / "config.json").write_text(json.dumps(found))
    with pytest.raises((OpenError, WeightsError), match=told) as error:
        opened(folder)
    assert "\n" not in str(error.value)


def test_an_upstream_llm_jp_4_vl_is_read_by_our_classes(tmp_path):
    tokenizer = write_tokenizer(tmp_path / "tokenizer", TEXTS).tokenizer
    names = ["<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": names, "eos_token": "<|return|>"})
    tokens = ImageTokens("<|image_pad|>", "<|image_start|>", "<|image_end|>")
    chat = ChatFormat(tokenizer, tokens, ChatRules(layout="llm-jp-4-vl"))
    scheme = LlmJp4VL(tile=16, patch=4, merge=2)
    prints = tiny_facts("llava").fingerprints
    of = Facts(scheme, chat.image_tokens, chat._rules, chat.image_token_id, chat.vocab_size, prints)
    section = tiny("internvl_siglip+llama")
    model = build.build(section, of)
    published.save(tmp_path / "jp", model, section, of)
    chat.save(tmp_path / "jp")
    found = opened(tmp_path / "jp")
    assert found.facts.scheme == scheme and found.facts.tokens == of.tokens and found.facts.chat == of.chat
    assert found.config.language.architecture == "llama" and not found.config.language.tie_embeddings
    theirs = dict(model.named_parameters())
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in found.model.named_parameters())
    asked = [{"role": "user", "content": [{"type": "text", "text": "何色?"}]}]
    assert found.chat.encode_prompt(asked, []) == chat.encode_prompt(asked, [])


@pytest.mark.parametrize("changes", [{"resample": 2}, {"crop_size": {"height": 12}}, {"image_mean": [0.5, 0.5, 0.5]}])
def test_a_processor_that_makes_other_pixels_is_refused(tmp_path, changes):
    folder, _ = llava(tmp_path / "llava", **changes)
    with pytest.raises(OpenError, match="image processor: "):
        opened(folder)


def test_places_that_hold_no_model_are_one_line(tmp_path):
    for place, told in ((tmp_path / "no", "no such model"), (tmp_path, "holds no model")):
        with pytest.raises(OpenError, match=told) as error:
            opened(place)
        assert "\n" not in str(error.value)
    (tmp_path / EXPORTED).write_text('{"version": 2}')
    with pytest.raises(OpenError, match="version 2, this program reads 1"):
        opened(tmp_path)


def test_half_precision_leaves_the_rotation_as_it_is(run):
    half = opened(run[0], dtype=torch.bfloat16).model
    assert half.dtype == torch.bfloat16 and half.decoder.rotary_emb.inv_freq.dtype == torch.float32
    assert made("llava").decoder.rotary_emb.inv_freq.dtype == torch.float32
