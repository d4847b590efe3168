"""A folder as it lies on the Hub -> our own classes, where they compute what its config.json says, else one line.

    llava     LlavaForConditionalGeneration with CLIP and Qwen3 or Llama: vqwen3, LLaVA 1.5
    llmjpvl   SigLIP, pixel shuffle and Llama or Qwen3: LLM-jp-4-VL; none of the code beside it is run
    jvlm      jina-vlm (upstream_jina.py); nor is its code

Sizes come from config.json, the tile scheme from the image processor's settings, tokens and template from the
tokenizer. What shapes do not show is compared when weights are read (train/models/same_config.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas import strict
from stages.chat import ChatFormat
from stages.chat_rules import DEFAULTS, ChatRules
from stages.tiles.llava15 import Llava15Pad, Llava15Square
from stages.tiles.llmjp4vl import LlmJp4VL
from train.config import ModelConfig
from train.inference import upstream_jina
from train.inference.errors import OpenError
from train.inference.tokenizer_files import chat_format
from train.inference.upstream_files import (
    CONFIG,
    Derived,
    facts,
    image_tokens,
    processor,
    read,
    section,
    vocabulary,
    want,
)
from train.models import lazy, same_config
from train.models.pretrained import HEAD

_UNSAID = 4096  # tokens, where a config does not say for how many its decoder was made
_DECODERS = ("qwen3", "llama")
_LLM_JP = ChatRules(layout="llm-jp-4-vl")
_BICUBIC = 3
_MEAN, _STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_PROCESSOR: dict[str, Any] = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": _MEAN,
    "image_std": _STD,
    "resample": _BICUBIC,
}


def kind(folder: Path) -> str:
    """What a folder's config.json calls its model; "" where it says nothing."""
    return str(read(folder).get("model_type", ""))


def context(folder: Path) -> int:
    """The most tokens that the decoder was made for."""
    told = read(folder)
    sections = (told.get("text_config"), told.get("llm_config"), told)
    keys = ("max_position_embeddings", "max_sequence_length")
    found = [s[key] for s in sections if isinstance(s, dict) for key in keys if s.get(key)]
    return int(found[0]) if found else _UNSAID


def derived(folder: Path) -> Derived:
    """Raises OpenError for what our classes can't represent."""
    if (found := kind(folder)) not in _READERS:
        known = ", ".join(_READERS)
        raise OpenError(f"{folder}: its config.json is of a model {found!r}, and our own classes are for {known}")
    return _READERS[found](folder)


def _llava(folder: Path) -> Derived:
    told = read(folder)
    vision, text = section(folder, "vision_config", "clip_vision_model"), section(folder, "text_config", "llama")
    want(folder, "vision_config.model_type", vision.model_type, "clip_vision_model")
    want(folder, "text_config.model_type", text.model_type, *_DECODERS)
    wanted = {"vision_feature_select_strategy": "default", "projector_hidden_act": "gelu"}
    for name, value in {**wanted, "multimodal_projector_bias": True}.items():
        want(folder, name, told.get(name, value), value)
    layers = told.get("vision_feature_layer", -2)
    undrawn = same_config.undrawn_layers(folder)
    vision.num_hidden_layers += undrawn
    from_the_end = [
        layer - undrawn if layer < 0 else layer for layer in (layers if isinstance(layers, list) else [layers])
    ]
    model = {
        "family": "llava",
        "vision": _sizes(vision) | {"feature_layers": from_the_end},
        "language": _language(folder, text),
        "init_seed": 0,
    }
    image = told.get("image_token_index", told.get("image_token_id"))
    scheme = _square(folder, vision)
    chat = chat_format(folder, image_tokens(folder, {"image": image}), DEFAULTS)
    found = strict.build(ModelConfig, model, f"{folder / CONFIG}")
    return Derived(found, facts(folder, scheme, chat, DEFAULTS), _begins(chat))


def _llmjpvl(folder: Path) -> Derived:
    told = read(folder)
    vision = section(folder, "vision_config", "siglip_vision_model")
    text = section(folder, "llm_config", "llama")
    want(folder, "vision_config.model_type", vision.model_type, "siglip_vision_model")
    want(folder, "llm_config.model_type", text.model_type, *_DECODERS)
    want(folder, "select_layer", told.get("select_layer", -1), -1)
    model = {"vision": _sizes(vision), "language": _language(folder, text), "init_seed": 0}
    scheme = LlmJp4VL(
        tile=int(vision.image_size),
        patch=int(vision.patch_size),
        merge=round(1 / float(told.get("downsample_ratio", 0.5))),
        max_tiles=int(told.get("max_dynamic_patch", 12)),
    )
    image = told.get("img_context_token_id")
    words = vocabulary(folder)
    ids = {"image": image, **{kind: words.get(f"<|image_{kind}|>") for kind in ("start", "end")}}
    chat = chat_format(folder, image_tokens(folder, ids), _LLM_JP)
    return Derived(strict.build(ModelConfig, model, f"{folder / CONFIG}"), facts(folder, scheme, chat, _LLM_JP))


def _begins(chat: ChatFormat) -> str:
    """A token that transformers' processors put before a prompt: where the tokenizer does, and the template does not
    print it."""
    first = chat.tokenizer.bos_token_id
    adds = first is not None and chat.tokenizer("a")["input_ids"][:1] == [first]
    asked = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    return "{{ bos_token }}" if adds and chat.encode_prompt(asked, []).input_ids[:1] != [first] else ""


def _language(folder: Path, text: Any) -> dict[str, Any]:
    rope = text.rope_parameters or {}
    return {
        "architecture": text.model_type,
        "hidden_size": text.hidden_size,
        "num_layers": text.num_hidden_layers,
        "num_heads": text.num_attention_heads,
        "num_kv_heads": text.num_key_value_heads,
        "intermediate_size": text.intermediate_size,
        "head_dim": getattr(text, "head_dim", None),
        "vocab_size": text.vocab_size,
        "tie_embeddings": not any(name.endswith(HEAD.removeprefix("language.")) for name in lazy.opened(folder)),
        "rope_theta": float(rope.get("rope_theta", 10000.0)),
        "norm_eps": text.rms_norm_eps,
    }


def _sizes(vision: Any) -> dict[str, int]:
    return {
        "hidden_size": vision.hidden_size,
        "num_layers": vision.num_hidden_layers,
        "num_heads": vision.num_attention_heads,
        "intermediate_size": vision.intermediate_size,
    }


def _square(folder: Path, vision: Any) -> Llava15Square | Llava15Pad:
    """How the image processor makes its one tile."""
    told, side = processor(folder), int(vision.image_size)
    for name, value in _PROCESSOR.items():
        want(folder, f"image processor: {name}", told.get(name, value), value)
    if told.get("do_pad"):
        return Llava15Pad(tile=side, patch=vision.patch_size)
    size, crop = told.get("size", {}), told.get("crop_size", {})
    want(folder, "image processor: do_center_crop", told.get("do_center_crop", True), True)
    want(folder, "image processor: size", size.get("shortest_edge") if isinstance(size, dict) else size, side)
    want(folder, "image processor: crop_size", crop.get("height") if isinstance(crop, dict) else crop, side)
    return Llava15Square(tile=side, patch=vision.patch_size)


_READERS = {"llava": _llava, "llmjpvl": _llmjpvl, "jvlm": upstream_jina.derived}
