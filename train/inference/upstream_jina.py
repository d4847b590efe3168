"""A folder of jina-vlm as it was released -> our own classes; none of the code beside it is run.

Its config.json is nested (train/models/jina_config.py), its image processor's settings are the tile scheme, and its
processor has ways of its own: the template prints `image_prompt_token` for an image, which is not the token that images
are made of, and before every prompt stands the token that begins texts, or where the tokenizer has none, the one that
ends them.

What is not said has the value of the released processor (image_processing_jvlm.py), whose default is to bring an image
to [3136, 1003520] pixels first. A `size` that is said is not read by it, and so not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas import strict
from stages.chat_rules import ChatRules
from stages.tiles.jina import Jina
from train.config import ModelConfig
from train.inference.errors import OpenError
from train.inference.tokenizer_files import chat_format
from train.inference.upstream_files import CONFIG, Derived, facts, image_tokens, processor, read, told, vocabulary, want
from train.models import jina_config

_LEAD = "{{ bos_token or eos_token }}"
_PROMPT = "<|image|>"
_TOKENS = {"image": "<im_patch>", "start": "<im_start>", "end": "<im_end>", "row": "<im_col>"}
_PIXELS = 56 * 56, 28 * 28 * 1280
# What our tiles are made by, and the processor's default
_SETTINGS: dict[str, tuple[Any, Any]] = {
    "cropping_method": ("overlap-and-resize", "resize"),
    "normalization_method": ("minmax", "gaussian"),
    "image_min": (-1.0, -1.0),
    "image_max": (1.0, 1.0),
    "interpolation": ("bilinear", "bicubic"),
    "random_interpolation": (False, False),
    "antialias": (False, True),
    "preserve_aspect_ratio": (False, False),
    "resize_in_float32": (False, True),
    "use_column_tokens": (True, True),
    "do_convert_rgb": (True, True),
}


def derived(folder: Path) -> Derived:
    """Raises OpenError and WeightsError for what our classes can't represent."""
    if not jina_config.is_nested(config := read(folder)):
        raise OpenError(f"{folder / CONFIG}: of a model 'jvlm' and not in its layout: no section has a block_config")
    config = jina_config.flat(config, folder / CONFIG)
    scheme = _scheme(folder, config)
    words = vocabulary(folder)
    tokens = image_tokens(folder, {kind: words.get(text) for kind, text in _TOKENS.items()})
    rules = _rules(folder)
    chat = chat_format(folder, tokens, rules, _LEAD)
    model = strict.build(ModelConfig, _model(config), f"{folder / CONFIG}")
    return Derived(model, facts(folder, scheme, chat, rules), _LEAD)


def _model(config: dict[str, Any]) -> dict[str, Any]:
    vision, text = config["vision_config"], config["text_config"]
    return {
        "family": "jina",
        "vision": {
            "hidden_size": vision["hidden_size"],
            "num_layers": vision["num_hidden_layers"],
            "num_heads": vision["num_attention_heads"],
            "intermediate_size": vision["intermediate_size"],
            "feature_layers": config["feature_layers"],
        },
        "language": {
            "hidden_size": text["hidden_size"],
            "num_layers": text["num_hidden_layers"],
            "num_heads": text["num_attention_heads"],
            "num_kv_heads": text["num_key_value_heads"],
            "head_dim": text["head_dim"],
            "intermediate_size": text["intermediate_size"],
            "vocab_size": text["vocab_size"],
            "extra_vocab_size": text["additional_vocab_size"] or None,
            "tie_embeddings": False,
            "rope_theta": float(text["rope_theta"]),
            "norm_eps": text["rms_norm_eps"],
        },
        "projector_size": config["projector_size"],
        "init_seed": 0,
    }


def _scheme(folder: Path, config: dict[str, Any]) -> Jina:
    """Raises OpenError for a processor that makes other tiles."""
    settings, vision, merge = processor(folder), config["vision_config"], config["pooling"]
    for name, (ours, unsaid) in _SETTINGS.items():
        _want(folder, settings, name, unsaid, ours)
    side, patch = vision["image_size"], vision["patch_size"]
    across = side // patch
    for name, unsaid, wanted in (("pooling_h", 2, merge), ("token_length_h", 12, -(-across // merge))):
        _want(folder, settings, name, unsaid, wanted)
        _want(folder, settings, name.replace("_h", "_w"), unsaid, wanted)
    _want(folder, settings, "patch_size", 14, patch)
    _want(folder, settings, "base_input_size", [336, 336], side, [side, side])
    margins = settings.get("overlap_margins", [4, 4])
    want(folder, "image processor: overlap_margins", margins[1], margins[0])
    pixels = (settings.get("min_pixels") or _PIXELS[0], settings.get("max_pixels") or _PIXELS[1])
    return _made(
        folder,
        {
            **{"tile": side, "patch": patch, "merge": merge, "margin": margins[0]},
            "max_tiles": settings.get("max_crops", 6),
            "pixels": pixels if settings.get("do_resize", True) else None,
        },
    )


def _made(folder: Path, sizes: dict[str, Any]) -> Jina:
    try:
        return Jina(**sizes)
    except ValueError as error:
        raise OpenError(f"{folder}: image processor: {error}") from None


def _want(folder: Path, settings: dict[str, Any], name: str, unsaid: Any, *ours: Any) -> None:
    found = settings.get(name)
    want(folder, f"image processor: {name}", unsaid if found is None else found, *ours)


def _rules(folder: Path) -> ChatRules:
    """What its processor tells the template."""
    path = folder / "processor_config.json"
    spaced = bool(told(path).get("always_start_with_space", False)) if path.is_file() else False
    return ChatRules(variables={"image_prompt_token": _PROMPT, "always_start_with_space": spaced})
