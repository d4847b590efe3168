"""An export is read by plain transformers in a process without this project, and says there what the model says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_exports import EXPORTS, FP32, again, exported, questions, tiny, turn
from tiny_models import LANGUAGE

from stages.chat_rules import ChatRules
from train.export import folder, proof
from train.export.failure import ExportError
from train.export.folder import How
from train.inference import Answerer, upstream_folder
from train.inference.conversation import Conversation, Sampling
from train.inference.engine import Engine, Request
from train.inference.feed import Feed
from train.inference.opened import opened
from train.inference.prompt import Prompts
from train.inference.upstream import Upstream
from train.models import published

QUICK = ("llava", "internvl_siglip", "jina")
NAMES = [name if name == "jina" else pytest.param(name, marks=pytest.mark.slow) for name in EXPORTS]


def greedy(of, messages, pictures, most=8):
    """The ids of our own answer, with the one that ends it."""
    prompt = Prompts(of.chat, of.facts, of.context).of(Conversation(tuple(messages), tuple(pictures)))
    request = Request(0, prompt, Sampling(), most, lambda token: token in of.stops)
    list(Engine(of.model, of.facts, slots=1).run(Feed([request], lambda _, one: one, 1, 1)))
    return request.tokens


@pytest.mark.parametrize("name", NAMES)
def test_alone_it_has_the_same_ids_pixels_logits_and_answers(name, tmp_path):
    """Nothing is missing or unexpected among its weights, else `alone` ends with an error."""
    of, asked = tiny(name, tmp_path), questions()
    out = exported(tmp_path / "out", of)
    (tmp_path / "place").mkdir()
    found = proof.alone(out, asked, tmp_path / "place")
    for number, (messages, pictures) in enumerate(asked):
        ours = proof.ask(of, messages, pictures)
        assert found[f"{number}.input_ids"][0].tolist() == ours.ids.tolist()
        assert (f"{number}.pixel_values" in found) == bool(pictures)
        if pictures:
            assert torch.allclose(found[f"{number}.pixel_values"], ours.pixels, atol=1e-6)
        assert (found[f"{number}.logits"][0, -1] - ours.logits).abs().max() < 1e-5 * ours.logits.abs().max()
        with torch.no_grad():
            assert found[f"{number}.new"][0].tolist() == greedy(of, messages, pictures)


@pytest.mark.parametrize("name", EXPORTS)
def test_it_is_read_again_bit_by_bit_and_exported_again_it_is_the_same_bytes(name, tmp_path):
    of = tiny(name, tmp_path)
    out = exported(tmp_path / "out", of)
    read = opened(out, "cpu", torch.float32)
    assert published.names(read.model, read.config).keys() == published.names(of.model, of.config).keys()
    for key, tensor in of.model.state_dict().items():
        assert torch.equal(tensor, read.model.state_dict()[key]), key
    twice = exported(tmp_path / "twice", read)
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert written == {path.name: path.read_bytes() for path in twice.iterdir()}


def test_llavas_names_are_those_that_other_loaders_map(tmp_path):
    """The layout of published checkpoints: a loader that knows only that one asks for these beginnings."""
    of = tiny("llava", tmp_path)
    out = exported(tmp_path / "out", of)
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    layer = (
        r"(self_attn\.(q|k|v|o)_proj|self_attn\.(q|k)_norm|mlp\.(gate|up|down)_proj|(input|post_attention)_layernorm)"
    )
    block = r"(self_attn\.(q|k|v|out)_proj|mlp\.fc[12]|layer_norm[12])\.(weight|bias)"
    wanted = re.compile(
        rf"language_model\.model\.(embed_tokens\.weight|norm\.weight|layers\.[01]\.{layer}\.weight)"
        rf"|vision_tower\.vision_model\.(embeddings\.(class_embedding|(patch|position)_embedding\.weight)"
        rf"|(pre_layrnorm|post_layernorm)\.(weight|bias)|encoder\.layers\.[01]\.{block})"
        r"|multi_modal_projector\.linear_[12]\.(weight|bias)"
    )
    assert not [name for name in index if not wanted.fullmatch(name)]
    assert len(index) == 2 * 11 + 2 + 3 + 4 + 2 * 16 + 4
    told = json.loads((out / "config.json").read_text())
    assert (told["vision_feature_layer"], told["vision_feature_select_strategy"]) == (-1, "default")
    assert told["image_token_index"] == of.facts.image_token_id and told["text_config"]["rope_theta"] == 10000.0


@pytest.mark.parametrize("name", QUICK)
def test_the_models_context_goes_with_it(name, tmp_path):
    out = exported(tmp_path / "out", again(tiny(name, tmp_path), context=5000))
    told = json.loads((out / "config.json").read_text())
    assert told.get("text_config", told.get("llm_config"))["max_position_embeddings"] == 5000
    assert opened(out).context == upstream_folder.context(out) == 5000


def test_others_answer_beyond_the_default_of_a_llama(tmp_path):
    """Which is 2,048 tokens."""
    language = {**LANGUAGE, "architecture": "llama", "tie_embeddings": False}
    of = again(tiny("llava", tmp_path, language=language), context=3000)
    out = exported(tmp_path / "out", of)
    asked = [turn("user", "x" * 2100)]
    theirs, ours = Upstream(out, False, "cpu", torch.float32), Answerer(opened(out, "cpu", torch.float32), 1)
    assert theirs.answer(asked, (), Sampling(6)) == ours.answer(asked, (), Sampling(6))


def test_weights_are_shared_out_between_files_of_a_size(tmp_path):
    of = tiny("llava", tmp_path)
    out = exported(tmp_path / "out", of)
    told = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(out.glob("model-*.safetensors"))
    assert [path.name for path in files] == sorted(set(told["weight_map"].values())) and len(files) > 2
    for path in files:
        with safe_open(path, "pt") as file:
            assert {told["weight_map"][name] for name in file.keys()} == {path.name}  # noqa: SIM118
            sizes = [file.get_tensor(name).nbytes for name in file.keys()]  # noqa: SIM118
        assert sum(sizes) <= FP32.shard_size or len(sizes) == 1
    whole = exported(tmp_path / "whole", of, How(torch.bfloat16, 10**9))
    weights = load_file(whole / "model.safetensors")
    assert not (whole / "model.safetensors.index.json").exists()
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16} and weights.keys() == told[
        "weight_map"
    ].keys()
    assert told["metadata"]["total_size"] == 2 * sum(tensor.nbytes for tensor in weights.values())
    for name, tensor in published.names(of.model, of.config).items():
        assert torch.equal(weights[name], tensor.bfloat16())


def test_a_folder_that_is_there_is_refused_and_one_that_fails_never_is(tmp_path):
    of = tiny("llava", tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(ExportError, match="there: is there already; remove it or name another"):
        exported(tmp_path / "there", of)

    def fails(draft: Path) -> None:
        assert (draft / "config.json").is_file() and not (tmp_path / "new").exists()
        raise ExportError("no")

    with pytest.raises(ExportError, match="no"):
        folder.write(tmp_path / "new", of, {}, FP32, "card", fails)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there", "tokenizer"]


@pytest.mark.parametrize("name", ["internvl_siglip", pytest.param("llava", marks=pytest.mark.slow)])
def test_the_check_finds_weights_that_are_others(name, tmp_path):
    """One number of one bias, in the exported file."""
    of = tiny(name, tmp_path)

    def spoil(draft: Path) -> None:
        bias = of.model.projector[-1].bias
        with torch.no_grad():
            bias[0] += 0.5
        proof.prove(draft, of, rounds=False)

    with pytest.raises(ExportError, match="read again, the export says something else"):
        folder.write(tmp_path / "new", of, {}, FP32, "card", spoil)


@pytest.mark.slow
def test_a_first_stage_without_questions_passes_the_check(tmp_path):
    of = tiny("llava+square", tmp_path, ChatRules(layout="plain"))
    folder.write(tmp_path / "out", of, {}, FP32, "card", lambda draft: proof.prove(draft, of, rounds=False))
    assert (tmp_path / "out").is_dir()
