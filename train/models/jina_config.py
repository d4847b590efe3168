"""jina-vlm's own config.json -> the keys that others have, or the one thing in it that our classes don't compute.

Its sections are nested: `text_config.block_config.attn_config.n_heads`, `vision_config.vl_connector_config...`. What is
not said has the value of its released classes (configuration_jvlm.py). What a section chooses among kinds of blocks,
and what our model has only one of, has to be that one.

Whether attention has biases where ours has none is not asked here: the weights show it (jina_names.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from train.models.lazy import WeightsError

KIND = "jvlm"
Told = dict[str, Any]


class Choice(NamedTuple):
    """A key, its value where it is not said, and those that our model has."""

    key: str
    unsaid: Any
    ours: tuple[Any, ...]


def _choices(section: str, unsaid: Mapping[str, Any], **ours: Any) -> list[Choice]:
    return [
        Choice(f"{section}.{key}", unsaid.get(key), value if isinstance(value, tuple) else (value,))
        for key, value in ours.items()
    ]


_ATTENTION = {"sliding_window": -1, "fp32": False} | dict.fromkeys(
    [f"{part}_bias" for part in "qkvo"] + [f"{part}_lnorm" for part in "qkvo"] + ["inner_lnorm", "qkv_lnorm_on_heads"],
    False,
)
_FFN = {"activation_type": "silu", "bias": False, "inner_lnorm": False, "gated_activation": True}
_NORM = {"type": "default", "with_affine": True}
_PLAIN = {"v_lnorm": False, "o_lnorm": False, "inner_lnorm": False, "clip_qkv": None, "softmax_scale": None}
_TEXT = {"rope": False, "partial_rotary_factor": 1.0, "normalize_input_embeds": False}
_VISION = {
    **{"input_size": None, "n_channels": 3, "linear_patch_embedding": True, "patch_embedding_bias": True},
    **{"pre_lnorm": False, "use_absolute_positional_embeddings": True, "use_cls_token": True},
}
_CONNECTOR = {"pooling_type": "attention", "projector_type": "mlp", "padding_embed_type": None}
_POSTNORM = {"postnorm": False, "attn_lscale_init": None, "ffn_lscale_init": None}

_T, _V, _C = "text_config.block_config", "vision_config.block_config", "vision_config.vl_connector_config"
_CHOICES = (
    _choices("text_config", _TEXT, rope=True, partial_rotary_factor=1.0, normalize_input_embeds=False)
    + _choices(_T, _POSTNORM, **_POSTNORM)
    + _choices(f"{_T}.lnorm_config", _NORM, type="rms", with_affine=True)
    + _choices(f"{_T}.attn_config", _ATTENTION, q_lnorm=True, k_lnorm=True, qkv_lnorm_on_heads=True, **_PLAIN)
    + _choices(f"{_T}.attn_config", _ATTENTION, sliding_window=(-1, None), o_bias=False)
    + _choices(f"{_T}.attn_config.lnorm_config", _NORM, type="rms", with_affine=True)
    + _choices(f"{_T}.ffn_config", _FFN, bias=False, inner_lnorm=False, gated_activation=True)
    + _choices("vision_config", _VISION, n_channels=3, linear_patch_embedding=True, patch_embedding_bias=True)
    + _choices("vision_config", _VISION, pre_lnorm=False, use_absolute_positional_embeddings=True, use_cls_token=False)
    + _choices(_V, _POSTNORM, **_POSTNORM)
    + _choices(f"{_V}.lnorm_config", _NORM, type="default", with_affine=True)
    + _choices(f"{_V}.attn_config", _ATTENTION, q_lnorm=False, k_lnorm=False, o_bias=True, **_PLAIN)
    + _choices(f"{_V}.ffn_config", _FFN, bias=True, inner_lnorm=False, gated_activation=False)
    + _choices(_C, _CONNECTOR, pooling_type="attention_meanq", projector_type="mlp")
    + _choices(_C, _CONNECTOR, padding_embed_type="pad_and_partial_pad")
    + _choices(f"{_C}.attn_pooling_config", _ATTENTION, q_bias=True, o_bias=True, q_lnorm=False, k_lnorm=False)
    + _choices(f"{_C}.attn_pooling_config", _ATTENTION, **_PLAIN)
    + _choices(f"{_C}.mlp_projector_config", _FFN, activation_type=("silu", "swish"), gated_activation=True, bias=False)
    + _choices(f"{_C}.mlp_projector_config", _FFN, inner_lnorm=False)
)
_SECTIONS = ("text_config", "vision_config")


def is_nested(told: Mapping[str, Any]) -> bool:
    """Whether a config.json is of jina-vlm's own layout."""
    return told.get("model_type") == KIND and any("block_config" in (told.get(name) or {}) for name in _SECTIONS)


def flat(told: Told, path: Path) -> Told:
    """With `vision_config` as SigLIP's and `text_config` as Qwen3's are, and beside them `feature_layers`, `pooling`
    and `projector_size`. Raises WeightsError."""
    for choice in _CHOICES:
        _want(path, choice.key, _at(told, choice.key, choice.unsaid), choice.ours)
    vision, text, connector = _vision(told, path), _text(told, path), _at(told, _C, {})
    merges = connector.get("pooling_h", 2), connector.get("pooling_w", 2)
    _want(path, f"{_C}.pooling_w", merges[1], merges[:1])
    pooling, wide = f"{_C}.attn_pooling_config", vision["hidden_size"]
    heads = _at(told, f"{pooling}.n_heads", 12)
    _want(path, f"{pooling}.n_heads", heads, (vision["num_attention_heads"],))
    _want(path, f"{pooling}.n_kv_heads", _at(told, f"{pooling}.n_kv_heads", None), (None, heads))
    _want(path, f"{pooling}.head_dim", _at(told, f"{pooling}.head_dim", None), (None, wide // heads))
    _want(path, "vision_config.output_size", _at(told, "vision_config.output_size", 768), (text["hidden_size"],))
    return {
        **told,
        "vision_config": vision,
        "text_config": text,
        "feature_layers": _layers(told, vision["num_hidden_layers"], path),
        "pooling": merges[0],
        "projector_size": _inner(told, f"{_C}.mlp_projector_config", wide),
    }


def _vision(told: Told, path: Path) -> Told:
    wide, attention = _at(told, "vision_config.hidden_size", 768), f"{_V}.attn_config"
    heads = _at(told, f"{attention}.n_heads", 12)
    _want(path, f"{attention}.n_kv_heads", _at(told, f"{attention}.n_kv_heads", None), (None, heads))
    _want(path, f"{attention}.head_dim", _at(told, f"{attention}.head_dim", None), (None, wide // heads))
    size = _at(told, "vision_config.input_size", None)
    across, down = size if isinstance(size, list) and len(size) == 2 else (size, None)
    _want(path, "vision_config.input_size", down, (across,))
    return {
        "hidden_size": wide,
        "num_hidden_layers": _at(told, "vision_config.n_layers", 12),
        "num_attention_heads": heads,
        "intermediate_size": _inner(told, f"{_V}.ffn_config", wide),
        "image_size": across,
        "patch_size": _at(told, "vision_config.patch_size", 14),
        "hidden_act": _at(told, f"{_V}.ffn_config.activation_type", "silu"),
        "layer_norm_eps": _eps(told, f"{_V}.lnorm_config", path),
    }


def _text(told: Told, path: Path) -> Told:
    wide, attention = _at(told, "text_config.hidden_size", 768), f"{_T}.attn_config"
    heads = _at(told, f"{attention}.n_heads", 12)
    eps = _eps(told, f"{_T}.lnorm_config", path)
    _want(path, f"{attention}.lnorm_config.eps", _at(told, f"{attention}.lnorm_config.eps", None), (eps,))
    rows = told.get("text_config", {}).get("embedding_size", 50304) or _at(told, "text_config.vocab_size", 50257)
    longest = _at(told, "text_config.max_sequence_length", 1024)
    return {
        "model_type": "qwen3",
        "hidden_size": wide,
        "num_hidden_layers": _at(told, "text_config.n_layers", 12),
        "num_attention_heads": heads,
        "num_key_value_heads": _at(told, f"{attention}.n_kv_heads", None) or heads,
        "head_dim": _at(told, f"{attention}.head_dim", None) or wide // heads,
        "intermediate_size": _inner(told, f"{_T}.ffn_config", wide),
        "hidden_act": _at(told, f"{_T}.ffn_config.activation_type", "silu"),
        "rms_norm_eps": eps,
        "rope_theta": _at(told, "text_config.rope_theta", 1e6),
        "rope_scaling": _at(told, "text_config.rope_scaling", None),
        "vocab_size": rows,
        "additional_vocab_size": _at(told, "text_config.additional_vocab_size", None) or 0,
        "max_position_embeddings": _at(told, "text_config.max_position_embeddings", None) or longest,
    }


def _layers(told: Told, depth: int, path: Path) -> list[int]:
    """The blocks that are read, from the end. Its list has the last norm's output after the blocks'."""
    found = _at(told, "vision_config.vit_layers", [-1])
    blocks = [layer if layer >= 0 else layer + depth + 1 for layer in found]
    for layer, block in zip(found, blocks, strict=True):
        if not 0 <= block < depth:
            raise WeightsError(f"{path}: vision_config.vit_layers has {layer}, and our own classes read blocks alone")
    return [block - depth for block in blocks]


def _inner(told: Told, section: str, wide: int) -> int:
    return int(_at(told, f"{section}.size", None) or _at(told, f"{section}.ratio", 4) * wide)


def _eps(told: Told, section: str, path: Path) -> float:
    found = _at(told, f"{section}.eps", None)
    if not isinstance(found, float):
        raise WeightsError(f"{path}: {section}.eps is {found}, wanted a number; fetch it again")
    return found


def _at(told: Any, key: str, unsaid: Any) -> Any:
    """The value at a dotted key."""
    for name in key.split("."):
        if not isinstance(told, dict) or told.get(name) is None:
            return unsaid
        told = told[name]
    return told


def _want(path: Path, key: str, found: Any, wanted: tuple[Any, ...]) -> None:
    if found not in wanted:
        names = " or ".join(map(str, wanted))
        raise WeightsError(f"{path}: {key} is {found}, and our own classes have {names}")
