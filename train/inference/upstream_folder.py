"""A folder as it lies on the Hub -> our own classes, where they compute what its config.json says, else one line.

    llava   LlavaForConditionalGeneration with CLIP and Qwen3 or Llama: vqwen3, LLaVA 1.5

Sizes come from config.json, the tile scheme from the image processor's settings, tokens and template from the
tokenizer. What shapes do not show is compared when weights are read (train/models/same_config.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import CONFIG_MAPPING

from schemas import fingerprints, strict
from schemas.manifest import hash_file
from stages.chat import ImageTokens
from stages.chat_rules import DEFAULTS
from stages.tiles.llava15 import Llava15Pad, Llava15Square
from train.config import ModelConfig
from train.data.shards import Facts
from train.inference.errors import OpenError
from train.inference.tokenizer_files import chat_format, files
from train.models import lazy, same_config
from train.models.pretrained import HEAD

CONFIG = "config.json"
_UNSAID = 4096  # tokens, where a config does not say for how many its decoder was made
_DECODERS = ("qwen3", "llama")
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


def read(folder: Path) -> dict[str, Any]:
    """config.json. Raises OpenError."""
    return _json(folder / CONFIG)


def kind(folder: Path) -> str:
    """What a folder's config.json calls its model; "" where it says nothing."""
    return str(read(folder).get("model_type", ""))


def context(folder: Path) -> int:
    """The most tokens that the decoder was made for."""
    told = read(folder)
    sections = (told.get("text_config"), told.get("llm_config"), told)
    found = [s["max_position_embeddings"] for s in sections if isinstance(s, dict) and "max_position_embeddings" in s]
    return int(found[0]) if found else _UNSAID


def derived(folder: Path) -> tuple[ModelConfig, Facts]:
    """Raises OpenError for what our classes can't represent."""
    if (found := kind(folder)) not in _READERS:
        known = ", ".join(_READERS)
        raise OpenError(f"{folder}: its config.json is of a model {found!r}, and our own classes are for {known}")
    return _READERS[found](folder)


def _llava(folder: Path) -> tuple[ModelConfig, Facts]:
    told = read(folder)
    vision, text = _section(folder, "vision_config", "clip_vision_model"), _section(folder, "text_config", "llama")
    _want(folder, "vision_config.model_type", vision.model_type, "clip_vision_model")
    _want(folder, "text_config.model_type", text.model_type, *_DECODERS)
    wanted = {"vision_feature_select_strategy": "default", "projector_hidden_act": "gelu"}
    for name, value in {**wanted, "multimodal_projector_bias": True}.items():
        _want(folder, name, told.get(name, value), value)
    layers = told.get("vision_feature_layer", -2)
    undrawn = same_config.undrawn_layers(folder)
    vision.num_hidden_layers += undrawn
    from_the_end = [
        layer - undrawn if layer < 0 else layer for layer in (layers if isinstance(layers, list) else [layers])
    ]
    section = {
        "family": "llava",
        "vision": _sizes(vision) | {"feature_layers": from_the_end},
        "language": _language(folder, text),
        "init_seed": 0,
    }
    image = told.get("image_token_index", told.get("image_token_id"))
    scheme = _square(folder, vision)
    return strict.build(ModelConfig, section, f"{folder / CONFIG}"), _facts(folder, scheme, {"image": image})


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
    told, side = _processor(folder), int(vision.image_size)
    for name, value in _PROCESSOR.items():
        _want(folder, f"image processor: {name}", told.get(name, value), value)
    if told.get("do_pad"):
        return Llava15Pad(tile=side, patch=vision.patch_size)
    size, crop = told.get("size", {}), told.get("crop_size", {})
    _want(folder, "image processor: do_center_crop", told.get("do_center_crop", True), True)
    _want(folder, "image processor: size", size.get("shortest_edge") if isinstance(size, dict) else size, side)
    _want(folder, "image processor: crop_size", crop.get("height") if isinstance(crop, dict) else crop, side)
    return Llava15Square(tile=side, patch=vision.patch_size)


def _processor(folder: Path) -> dict[str, Any]:
    """The settings of the image processor, wherever this version of a folder has them."""
    whole = folder / "processor_config.json"
    if whole.is_file() and isinstance(found := _json(whole).get("image_processor"), dict):
        return found
    return _json(folder / "preprocessor_config.json")


def _facts(folder: Path, scheme: Any, ids: Mapping[str, Any]) -> Facts:
    """`ids`: the ids of an image's tokens by their kind; their texts are the tokenizer's."""
    vocabulary = {number: text for text, number in _vocabulary(folder).items()}
    for name, number in ids.items():
        if number not in vocabulary:
            raise OpenError(f"{folder}: its tokenizer has no token {number}, which is to be its {name} token")
    names = {name: vocabulary[number] for name, number in ids.items()}
    tokens = ImageTokens(**names, ids={names[kind]: number for kind, number in ids.items()})
    chat = chat_format(folder, tokens, DEFAULTS)
    prints = fingerprints.taken({path.name: hash_file(path) for path in files(folder)}, asdict(scheme))
    return Facts(scheme, chat.image_tokens, DEFAULTS, chat.image_token_id, chat.vocab_size, prints)


def _vocabulary(folder: Path) -> dict[str, int]:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise OpenError(f"{path}: missing; fetch it, or convert the tokenizer to a fast one")
    found: dict[str, int] = Tokenizer.from_file(str(path)).get_vocab()
    return found


def _section(folder: Path, name: str, default: str) -> Any:
    """A part of a config with what its class has for all that it does not say."""
    given = dict(read(folder).get(name) or {})
    found = given.pop("model_type", default)
    if found not in CONFIG_MAPPING:
        raise OpenError(f"{folder}: its {name} is of a model {found!r}, which transformers does not know")
    return CONFIG_MAPPING[found](**given)


def _want(folder: Path, name: str, found: Any, *wanted: Any) -> None:
    if found not in wanted:
        names = " or ".join(map(str, wanted))
        raise OpenError(f"{folder}: {name} is {found}, and our own classes have {names}")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OpenError(f"{path}: can't be read ({' '.join(str(error).split())}); fetch it again") from None
    if not isinstance(found, dict):
        raise OpenError(f"{path}: is no JSON object; fetch it again")
    return found


_READERS = {"llava": _llava}
