"""InternVL's shape with a SigLIP tower, for `trust_remote_code`: needs torch and transformers (5.17 or later) alone.

    pixel_values [N, 3, S, S] -> vision tower -> pixel shuffle -> projector -> in place of the image tokens' embeddings

`generate` returns the new tokens alone, without the prompt.

Letters in names of shapes: N tiles, S side of a tile in pixels, P patches along a side, B prompts, T tokens of each.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)


class LLMjpVLConfig(PreTrainedConfig):
    model_type = "llmjpvl"
    sub_configs = {"vision_config": SiglipVisionConfig, "llm_config": AutoConfig}  # noqa: RUF012

    def __init__(
        self,
        vision_config: Any = None,
        llm_config: Any = None,
        img_context_token_id: int = 0,
        downsample_ratio: float = 0.5,
        select_layer: int = -1,
        **others: Any,
    ) -> None:
        self.vision_config = SiglipVisionConfig(**(vision_config or {})) if _is_told(vision_config) else vision_config
        self.llm_config = _language(llm_config) if _is_told(llm_config) else llm_config
        self.img_context_token_id = img_context_token_id
        self.downsample_ratio, self.select_layer = downsample_ratio, select_layer
        super().__init__(**{"tie_word_embeddings": self.llm_config.tie_word_embeddings, **others})

    def get_text_config(self, *given: Any, **named: Any) -> Any:
        return self.llm_config


def _is_told(config: Any) -> bool:
    return config is None or isinstance(config, dict)


def _language(told: Any) -> Any:
    told = dict(told or {})
    return AutoConfig.for_model(told.pop("model_type", "qwen3"), **told)


class _Backbone(nn.Module):
    """The tower under the name that published weights have."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.vision_model = SiglipVisionModel(config)


class LLMjpVLModel(PreTrainedModel, GenerationMixin):
    config_class = LLMjpVLConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    _no_split_modules = ["SiglipEncoderLayer", "LlamaDecoderLayer", "Qwen3DecoderLayer", "Qwen3MoeDecoderLayer"]  # noqa: RUF012
    _tied_weights_keys = {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"}  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    supports_gradient_checkpointing = True

    def __init__(self, config: Any, use_flash_attn: bool | None = None) -> None:
        """`use_flash_attn` is what other code of this kind is told; here `attn_implementation` says it."""
        super().__init__(config)
        shuffled = round(config.vision_config.hidden_size / config.downsample_ratio**2)
        hidden = config.llm_config.hidden_size
        self.vision_backbone = _Backbone(config.vision_config)
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(shuffled), nn.Linear(shuffled, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.language_model = AutoModelForCausalLM.from_config(config.llm_config)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> Any:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value: Any) -> None:
        self.language_model.set_output_embeddings(value)

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """[N, 3, S, S] -> the features of the image tokens, in their order."""
        patches = self.vision_backbone.vision_model(pixel_values=pixel_values.to(self.dtype)).last_hidden_state
        side = round(patches.shape[1] ** 0.5)
        merge = round(1 / self.config.downsample_ratio)
        x = patches.reshape(-1, side // merge, merge, side // merge, merge, patches.shape[2])
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(len(patches), (side // merge) ** 2, -1)
        features: Tensor = self.mlp1(x).flatten(0, 1)
        return features

    def embed(self, input_ids: Tensor, pixel_values: Tensor | None) -> Tensor:
        """Token embeddings with the features of images in their places."""
        embeddings: Tensor = self.get_input_embeddings()(input_ids)
        if pixel_values is None or not len(pixel_values):
            return embeddings
        features = self.get_image_features(pixel_values).to(embeddings)
        places = input_ids == self.config.img_context_token_id
        if int(places.sum()) != len(features):
            raise ValueError(f"{int(places.sum())} image tokens and {len(features)} features; use the processor's ids")
        return embeddings.masked_scatter(places[..., None].expand_as(embeddings), features)

    def forward(
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        **others: Any,
    ) -> Any:
        if inputs_embeds is None:
            inputs_embeds = self.embed(input_ids, pixel_values)
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            **others,
        )

    @torch.no_grad()
    def generate(
        self, input_ids: Any = None, pixel_values: Any = None, inputs_embeds: Any = None, **others: Any
    ) -> Any:
        """The new tokens."""
        if inputs_embeds is None:
            inputs_embeds = self.embed(input_ids, pixel_values)
        return super().generate(inputs_embeds=inputs_embeds, **others)

    def prepare_inputs_for_generation(self, input_ids: Any, inputs_embeds: Any = None, **kwargs: Any) -> Any:
        return super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)


LLMjpVLConfig.register_for_auto_class()
LLMjpVLModel.register_for_auto_class("AutoModel")
