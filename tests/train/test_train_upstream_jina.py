"""A folder in jina-vlm's released layout is opened by our own classes; what they don't compute is one line."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_train_answerer import asking
from tiny_exports import exported
from tiny_models import LANGUAGE, config, picture, shuffled
from tiny_shards import write_tokenizer

from schemas.fingerprints import Fingerprints
from stages.chat import ImageTokens
from stages.chat_rules import DEFAULTS
from stages.images.rules import open_rgb
from stages.tiles.jina import Jina
from train.data.shards import Facts
from train.export import proof
from train.inference import Answerer, Sampling
from train.inference.errors import OpenError
from train.inference.opened import opened
from train.models import build, pretrained, published
from train.models.lazy import WeightsError

TEXTS = ["Which colour?", "red blue green", "何色?"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}{{ image_prompt_token }}{% else %}{% if always_start_with_space %} {% endif %}"
    "{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SETTINGS = {
    "image_processor_type": "JinaVLMImageProcessor",
    "base_input_size": [28, 28],
    "patch_size": 4,
    "cropping_method": "overlap-and-resize",
    "normalization_method": "minmax",
    "image_mean": [0.48, 0.45, 0.4],
    "interpolation": "bilinear",
    "antialias": False,
    "resize_in_float32": False,
    "max_crops": 4,
    "overlap_margins": [2, 2],
    "pooling_h": 2,
    "pooling_w": 2,
    "token_length_h": 4,
    "token_length_w": 4,
    "min_pixels": 400,
    "max_pixels": 4000,
    "size": {"shortest_edge": 1, "longest_edge": 2},
}
NORM, RMS = ({"type": kind, "with_affine": True, "eps": 1e-6} for kind in ("default", "rms"))
ATTENTION = {"n_kv_heads": None, "q_bias": True, "k_bias": True, "v_bias": True, "o_bias": True}


def told(rows, extra):
    """The nested config.json, of tiny sizes."""
    return {
        "model_type": "jvlm",
        "architectures": ["JinaVLMForConditionalGeneration"],
        "auto_map": {"AutoConfig": "configuration_jvlm.JinaVLMConfig"},
        "vision_config": {
            "block_config": {
                "attn_config": {**ATTENTION, "n_heads": 2, "head_dim": 12, "lnorm_config": NORM},
                "ffn_config": {
                    **{"activation_type": "gelu_pytorch_tanh", "bias": True, "gated_activation": False},
                    "size": 32,
                },
                "lnorm_config": NORM,
            },
            "hidden_size": 24,
            "input_size": [28, 28],
            "n_layers": 10,
            "output_size": 32,
            "patch_size": 4,
            "post_lnorm": True,
            "use_cls_token": False,
            "vit_layers": [-4, -10],
            "vl_connector_config": {
                "attn_pooling_config": {**ATTENTION, "n_heads": 2, "head_dim": 12},
                "mlp_projector_config": {"activation_type": "silu", "gated_activation": True, "size": 40},
                "padding_embed_type": "pad_and_partial_pad",
                "pooling_type": "attention_meanq",
            },
        },
        "text_config": {
            "block_config": {
                "attn_config": {
                    **{"head_dim": 8, "n_heads": 4, "n_kv_heads": 2, "sliding_window": -1},
                    **{"q_lnorm": True, "k_lnorm": True, "qkv_lnorm_on_heads": True, "lnorm_config": RMS},
                },
                "ffn_config": {"activation_type": "silu", "gated_activation": True, "size": 48},
                "lnorm_config": RMS,
            },
            "embedding_size": rows,
            "vocab_size": rows,
            "additional_vocab_size": extra,
            "hidden_size": 32,
            "max_sequence_length": 300,
            "n_layers": 2,
            "rope": True,
            "rope_scaling": None,
            "rope_theta": 1000000,
        },
    }


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The folder and the model that it was written of."""
    folder = tmp_path_factory.mktemp("jina") / "vlm"
    tokenizer = write_tokenizer(folder.with_name("tokenizer"), TEXTS).tokenizer
    rows = len(tokenizer)
    names = ["<im_start>", "<im_end>", "<im_patch>", "<im_col>", "<|image|>", "<im_slice>"]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    tokenizer.chat_template = TEMPLATE
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in names[:4]}
    tokens = ImageTokens("<im_patch>", "<im_start>", "<im_end>", "<im_col>", ids)
    scheme = Jina(tile=28, patch=4, margin=2, max_tiles=4, pixels=(400, 4000))
    of = Facts(scheme, tokens, DEFAULTS, ids["<im_patch>"], len(tokenizer), Fingerprints("", ""))
    language = {**LANGUAGE, "tie_embeddings": False, "vocab_size": rows, "extra_vocab_size": 20, "rope_theta": 1e6}
    section = config("jina", language=language)
    model = build.build(section, of).eval()
    shuffled(model)
    folder.mkdir()
    weights = published.names(model, section)
    block, norm = "model.vision_model.layers.{}.", "model.vision_model.post_lnorm.{}"
    for layer in (8, 9):  # that are there and read by nothing
        seven = {name: tensor for name, tensor in weights.items() if name.startswith(block.format(7))}
        weights |= {name.replace(block.format(7), block.format(layer)): tensor + 1 for name, tensor in seven.items()}
    weights |= {norm.format(kind): torch.ones(24) for kind in ("weight", "bias")}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    tokenizer.save_pretrained(folder)
    write(folder, "config.json", told(rows, 20))
    write(folder, "preprocessor_config.json", SETTINGS)
    write(folder, "processor_config.json", {"processor_class": "JinaVLMProcessor", "always_start_with_space": True})
    write(folder, "generation_config.json", {"eos_token_id": [0, 2]})
    return folder, model, section, scheme


def write(folder, name, found):
    (folder / name).write_text(json.dumps(found))


def changed(released, tmp_path, key, value, name="config.json"):
    """The folder with another value at a dotted key of one of its files."""
    for path in released[0].iterdir():
        (tmp_path / path.name).symlink_to(path)
    found = json.loads((released[0] / name).read_text())
    *sections, last = key.split(".")
    at = found
    for section in sections:
        at = at[section]
    at[last] = value
    (tmp_path / name).unlink()
    write(tmp_path, name, found)
    return tmp_path


def test_sizes_scheme_tokens_and_weights_are_the_folders(released):
    folder, model, section, scheme = released
    found = opened(folder)
    assert found.facts.scheme == scheme and found.context == 300 and found.stops == {0, 2}
    assert found.config.vision.feature_layers == (-3, -9) and found.config.projector_size == section.projector_size
    theirs = dict(model.named_parameters())
    assert {*theirs} == {name for name, _ in found.model.named_parameters()}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in found.model.named_parameters())


def test_a_prompt_is_what_the_released_processor_makes(released):
    """The token that ends texts, the template's text with the image's token, and for that token the image's."""
    found = Answerer.open(released[0])
    png = picture(1, 90, 40)
    prompt = found._prompts.of(asking("Which?", png))
    tokenizer, scheme = found.of.chat.tokenizer, released[3]
    grid = scheme.grid(90, 40)
    assert grid.rows * grid.cols > 1
    names = {"patch": "<im_patch>", "start": "<im_start>", "end": "<im_end>", "row": "<im_col>"}
    image = "".join(names[kind] * number for kind, number in scheme.runs(grid, 90, 40))
    written = f"<|im_end|><|im_start|>user\n{image} Which?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.ids.tolist() == tokenizer(written, add_special_tokens=False)["input_ids"]
    assert (prompt.tiles == scheme.cut(open_rgb(png), grid)).all() and prompt.tiles.dtype == np.uint8


def test_it_answers_and_says_no_token_that_was_added_for_images(released):
    found = Answerer.open(released[0], slots=2)
    asked = [asking("Which colour?"), asking("何色?", picture(2, 30, 60), picture(3, 20, 20)), asking("a", b"no")]
    answers = dict(found.answers(asked, Sampling(5)))
    assert [answers[n].finish == "error" for n in range(3)] == [False, False, True]
    assert answers[1].prompt_tokens > answers[0].prompt_tokens + 40


def test_first_weights_may_be_of_such_a_folder(released):
    folder, model, section, _ = released
    of = opened(folder).facts
    fresh = build.build(section, of)
    pretrained.load(fresh, dataclasses.replace(section, from_=str(folder)), of)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("text_config.block_config.attn_config.q_lnorm", False, "attn_config.q_lnorm is False"),
        ("text_config.block_config.postnorm", True, "postnorm is True"),
        ("text_config.partial_rotary_factor", 0.5, "partial_rotary_factor is 0.5"),
        ("text_config.rope_scaling", {"rope_type": "yarn"}, "rotation is of type yarn"),
        ("text_config.block_config.ffn_config.activation_type", "gelu", "hidden_act is gelu"),
        ("vision_config.use_cls_token", None, "use_cls_token is True"),
        ("vision_config.vit_layers", [-1, -4], "vit_layers has -1"),
        ("vision_config.input_size", [28, 14], "input_size is 14"),
        ("vision_config.vl_connector_config.pooling_type", "attention", "pooling_type is attention"),
        ("vision_config.vl_connector_config.attn_pooling_config.n_heads", 4, "n_heads is 4"),
        ("vision_config.block_config", None, "attn_config.o_bias is False"),
    ],
)
def test_what_our_classes_do_not_compute_is_one_line(released, tmp_path, key, value, line):
    with pytest.raises((OpenError, WeightsError), match=line) as error:
        opened(changed(released, tmp_path, key, value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cropping_method", "adaptive-slicing"),
        ("normalization_method", "gaussian"),
        ("interpolation", "bicubic"),
        ("antialias", None),
        ("resize_in_float32", True),
        ("base_input_size", [56, 56]),
        ("overlap_margins", [2, 4]),
        ("token_length_w", 12),
        ("patch_size", None),
    ],
)
def test_a_processor_that_makes_other_tiles_is_one_line(released, tmp_path, key, value):
    with pytest.raises(OpenError, match=f"image processor: {key}") as error:
        opened(changed(released, tmp_path, key, value, "preprocessor_config.json"))
    assert "\n" not in str(error.value)


def test_pixels_are_bounded_unless_the_processor_says_not(released, tmp_path):
    name = "preprocessor_config.json"
    assert opened(changed(released, tmp_path, "do_resize", False, name)).facts.scheme.pixels is None
    (unsaid := tmp_path / "unsaid").mkdir()
    found = opened(changed((tmp_path,), unsaid, "do_resize", True, name)).facts.scheme
    assert found.pixels == (400, 4000)
    (default := tmp_path / "default").mkdir()
    assert opened(changed((unsaid,), default, "max_pixels", None, name)).facts.scheme.pixels == (400, 1_003_520)


def test_it_is_exported_and_plain_transformers_has_the_same_tokens_and_logits(released, tmp_path):
    proof.prove(exported(tmp_path / "out", opened(released[0])), opened(released[0]), False)
