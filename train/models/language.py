"""The decoders: transformers' own classes for Qwen3, Llama and Qwen3's mixture of experts, from a config's sizes.

What no size says is as the published models of these names have it: SwiGLU, RMSNorm, no biases, and of the experts'
weights those of a token's chosen ones normalised to 1, in every layer. The router has no loss of its own.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from train.config import Language
from train.models.attention import VARLEN

_CLASSES = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen3_moe": (Qwen3MoeConfig, Qwen3MoeForCausalLM),
}


def make(language: Language, vocab_size: int) -> PreTrainedModel:
    """A decoder with its head, freshly drawn."""
    return _CLASSES[language.architecture][1](config(language, vocab_size))


def config(language: Language, vocab_size: int) -> PreTrainedConfig:
    experts: dict[str, Any] = {}
    if language.num_experts is not None:
        experts = {
            "num_experts": language.num_experts,
            "num_experts_per_tok": language.experts_per_token,
            "moe_intermediate_size": language.intermediate_size,
            "norm_topk_prob": True,
            "experts_implementation": "eager",
        }
    return _CLASSES[language.architecture][0](
        vocab_size=vocab_size,
        hidden_size=language.hidden_size,
        num_hidden_layers=language.num_layers,
        num_attention_heads=language.num_heads,
        num_key_value_heads=language.num_kv_heads,
        head_dim=language.width,
        intermediate_size=language.intermediate_size,
        rms_norm_eps=language.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": language.rope_theta},
        tie_word_embeddings=language.tie_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation=VARLEN,
        **experts,
    )


def active_parameters(decoder: Any, language: Language) -> int:
    """Of the decoder's layers, those that a token passes: of the experts' as many as it goes to."""
    found: int = sum(p.numel() for p in decoder.layers.parameters())
    if language.num_experts is None or language.experts_per_token is None:
        return found
    expert = 3 * language.hidden_size * language.intermediate_size
    return found - language.num_layers * expert * (language.num_experts - language.experts_per_token)
