"""The weights of jina-vlm under the names of its released classes, and under ours.

Both hold the same numbers, cut differently: where one has a matrix for queries, keys and values, the other has three;
its embedding is in two, the tokens of the text model and those that were added for images. So each rule says that some
of its tensors, one below the other, are some of ours, one below the other. Apart from that:

  patch_embed.proj.weight [v, p p 3]   our convolution [v, 3, p, p], its channels last
  language_model.layers.*.attn.*_b     zeros: its attention has room for biases that Qwen3's has not
  model.vision_model.post_lnorm.*      read by nothing; kept where it is given

The released names are those of the modelling code (modeling_jvlm.py, blocks_jvlm.py); ports of the model to other
frameworks rename them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from train.config import ModelConfig
from train.models.lazy import Lazies, Lazy, changed, joined

_V, _T, _C = "model.vision_model", "model.language_model", "model.vision_model.vl_connector"
_PATCH, _OURS_PATCH = f"{_V}.patch_embed.proj.weight", "vision.embeddings.patch_embedding.weight"
_ZERO = re.compile(rf"{_T}\.layers\.\d+\.attn\.[qkv]_b")


class Same(NamedTuple):
    """Name -> rows, here and there; one below the other they are the same."""

    theirs: dict[str, int]
    ours: dict[str, int]


def fold(weights: Mapping[str, Lazy], model: ModelConfig) -> Lazies:
    """Released weights by our names; those that no rule takes stay as they are."""
    found = {name: w for name, w in weights.items() if not (_ZERO.fullmatch(name) and not w.read().any())}
    for rule in rules(model, _head_rows(weights, model)):
        if all(name in found for name in rule.theirs):
            parts = [found.pop(name) for name in rule.theirs]
            found.update(_cut(rule, parts))
    if _PATCH in found:
        found[_OURS_PATCH] = _as_convolution(found.pop(_PATCH))
    return found


def unfold(tensors: Mapping[str, Tensor], model: ModelConfig) -> dict[str, Tensor]:
    """Our tensors by the released names."""
    found = dict(tensors)
    head = len(found["language.lm_head.weight"])
    for rule in rules(model, head):
        if all(name in found for name in rule.ours):
            whole = torch.cat([found.pop(name) for name in rule.ours])
            parts = torch.split(whole, _sizes(rule.theirs, len(whole)))
            found.update({name: part.contiguous() for name, part in zip(rule.theirs, parts, strict=True)})
    found[_PATCH] = found.pop(_OURS_PATCH).permute(0, 2, 3, 1).flatten(1).contiguous()
    for layer in range(model.language.num_layers):
        q, kv = _widths(model)
        for kind, rows in (("q", q), ("k", kv), ("v", kv)):
            found[f"{_T}.layers.{layer}.attn.{kind}_b"] = found[_PATCH].new_zeros(rows)
    return found


def rules(model: ModelConfig, head_rows: int) -> Iterator[Same]:
    """Every rule; -1 rows are the rest."""
    width = model.vision.hidden_size
    yield _one(f"{_V}.patch_embed.proj.bias", "vision.embeddings.patch_embedding.bias")
    yield _one(f"{_V}.pos_embed", "vision.embeddings.position_embedding.weight")
    for kind in ("weight", "bias"):
        yield _one(f"{_V}.post_lnorm.{kind}", f"vision.post_layernorm.{kind}")
        yield _one(f"{_C}.pooling.out.{kind}", f"projector.pooling.out.{kind}")
    for layer in range(model.vision.num_layers):
        yield from _tower_layer(f"{_V}.layers.{layer}", f"vision.encoder.layers.{layer}", width)
    yield _one(f"{_C}.pad_embed", "projector.pad_embed")
    yield _one(f"{_C}.pooling.q_w.weight", "projector.pooling.q.weight")
    yield _one(f"{_C}.pooling.q_b", "projector.pooling.q.bias")
    yield _one(f"{_C}.pooling.kv_w.weight", "projector.pooling.kv.weight")
    yield Same({f"{_C}.pooling.k_b": width, f"{_C}.pooling.v_b": width}, {"projector.pooling.kv.bias": -1})
    for name in ("up", "down"):
        yield _one(f"{_C}.projector.{name}.weight", f"projector.projector.{name}.weight")
    extra = {f"{_T}.embedding.new_embedding": -1} if model.language.extra_vocab_size else {}
    yield Same({f"{_T}.embedding.embedding": head_rows, **extra}, {"language.model.embed_tokens.weight": -1})
    for layer in range(model.language.num_layers):
        yield from _decoder_layer(f"{_T}.layers.{layer}", f"language.model.layers.{layer}", model)
    yield _one(f"{_T}.ln_f.weight", "language.model.norm.weight")
    yield _one("lm_head.weight", "language.lm_head.weight")


def _tower_layer(theirs: str, ours: str, width: int) -> Iterator[Same]:
    names = {"attn_lnorm": "layer_norm1", "ffn_lnorm": "layer_norm2", "attn.out": "self_attn.out_proj"}
    for name, own in {**names, "ffn.up": "mlp.fc1", "ffn.down": "mlp.fc2"}.items():
        for kind in ("weight", "bias"):
            yield _one(f"{theirs}.{name}.{kind}", f"{ours}.{own}.{kind}")
    yield Same(
        {f"{theirs}.attn.qkv_w.weight": -1}, {f"{ours}.self_attn.{kind}_proj.weight": width for kind in ("q", "k", "v")}
    )
    for kind in ("q", "k", "v"):
        yield _one(f"{theirs}.attn.{kind}_b", f"{ours}.self_attn.{kind}_proj.bias")


def _decoder_layer(theirs: str, ours: str, model: ModelConfig) -> Iterator[Same]:
    names = {"attn_lnorm": "input_layernorm", "ffn_lnorm": "post_attention_layernorm", "attn.out": "self_attn.o_proj"}
    norms = {"attn.q_lnorm": "self_attn.q_norm", "attn.k_lnorm": "self_attn.k_norm"}
    for name, own in {**names, **norms, "ffn.down": "mlp.down_proj"}.items():
        yield _one(f"{theirs}.{name}.weight", f"{ours}.{own}.weight")
    q, kv = _widths(model)
    rows = {f"{ours}.self_attn.{kind}_proj.weight": n for kind, n in (("q", q), ("k", kv), ("v", kv))}
    yield Same({f"{theirs}.attn.qkv_w.weight": -1}, rows)
    inner = model.language.intermediate_size
    both = {f"{ours}.mlp.{kind}_proj.weight": inner for kind in ("up", "gate")}  # the gate is the second half
    yield Same({f"{theirs}.ffn.up.weight": -1}, both)


def _one(theirs: str, ours: str) -> Same:
    return Same({theirs: -1}, {ours: -1})


def _widths(model: ModelConfig) -> tuple[int, int]:
    """Of all queries, and of all keys."""
    return model.language.num_heads * model.language.width, model.language.num_kv_heads * model.language.width


def _head_rows(weights: Mapping[str, Lazy], model: ModelConfig) -> int:
    head = weights.get("lm_head.weight")
    return head.shape[0] if head else model.language.vocab_size or 0


def _sizes(rows: Mapping[str, int], total: int) -> list[int]:
    known = sum(number for number in rows.values() if number >= 0)
    return [total - known if number < 0 else number for number in rows.values()]


def _cut(rule: Same, parts: list[Lazy]) -> Lazies:
    """Of a rule's tensors there, ours; a shape that doesn't fit is seen when it is put into its parameter."""
    total = sum(part.shape[0] for part in parts)
    sizes = _sizes(rule.ours, total)
    whole = joined(parts, (total, *parts[0].shape[1:]), torch.cat) if len(parts) > 1 else parts[0]
    if len(sizes) == 1:
        return {next(iter(rule.ours)): whole}
    starts = [0, *accumulate(sizes)]
    return {
        name: changed(whole, (max(0, min(end, total) - start), *whole.shape[1:]), _rows(start, end))
        for name, start, end in zip(rule.ours, starts[:-1], starts[1:], strict=True)
    }


class _rows:
    """Rows [start, end) of a tensor."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end

    def __call__(self, tensor: Tensor) -> Tensor:
        return tensor[self.start : self.end]


def _as_convolution(patch: Lazy) -> Lazy:
    side = round((patch.shape[-1] / 3) ** 0.5)
    shape = (patch.shape[0], 3, side, side)

    def change(tensor: Tensor) -> Tensor:
        return tensor.reshape(patch.shape[0], side, side, 3).permute(0, 3, 1, 2)

    return changed(patch, shape, change)
