"""jina-vlm's shape for `trust_remote_code`, under the names of its weights; torch and transformers (5.17 or later).

    pixel_values [N, 3, S, S] -> some blocks of SigLIP side by side -> attention pooling of m x m patches -> SwiGLU
                              -> those that stand in the prompt (feature_order) added to the embeddings of image tokens

The head has no rows for the tokens that were added for images. `generate` returns the new tokens alone.

Letters in names of shapes: N tiles, S side of a tile in pixels, P patches along a side, B prompts, T tokens of each.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    SiglipVisionConfig,
)
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import CausalLMOutputWithPast

from train.export.remote.blocks_jvlm import Language, Vision


class JinaVLMConfig(PreTrainedConfig):
    model_type = "jvlm"
    sub_configs = {"vision_config": SiglipVisionConfig, "text_config": AutoConfig}  # noqa: RUF012

    def __init__(
        self,
        vision_config: Any = None,
        text_config: Any = None,
        image_token_id: int = 0,
        vit_layers: Any = (-4, -10),
        pooling: int = 2,
        projector_size: int = 0,
        **others: Any,
    ) -> None:
        told = vision_config is None or isinstance(vision_config, dict)
        self.vision_config = SiglipVisionConfig(**(vision_config or {})) if told else vision_config
        told = text_config is None or isinstance(text_config, dict)
        self.text_config = Qwen3Config(**_plain(text_config)) if told else text_config
        self.image_token_id, self.vit_layers = image_token_id, [*vit_layers]
        self.pooling, self.projector_size = pooling, projector_size
        super().__init__(**{**others, "tie_word_embeddings": False})

    def get_text_config(self, *given: Any, **named: Any) -> Any:
        return self.text_config


def _plain(told: Any) -> dict[str, Any]:
    return {key: value for key, value in (told or {}).items() if key != "model_type"}


class Model(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.vision_model = Vision(config)
        self.language_model = Language(config.text_config)


class JinaVLM(PreTrainedModel, GenerationMixin):
    config_class = JinaVLMConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    _no_split_modules = ["TowerLayer", "Layer"]  # noqa: RUF012
    _supports_sdpa = True
    supports_gradient_checkpointing = True

    def __init__(self, config: Any, use_flash_attn: bool | None = None) -> None:
        """`use_flash_attn` is what other code of this kind is told; attention here is torch's own."""
        super().__init__(config)
        text = config.text_config
        text._attn_implementation = "sdpa"  # what the mask is made for
        self.model = Model(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.model.language_model.embedding

    def get_output_embeddings(self) -> Any:
        return self.lm_head

    def get_image_features(self, pixel_values: Tensor, feature_order: Tensor, last_tiles: Tensor) -> Tensor:
        """The features of the image tokens, in their order."""
        features: Tensor = self.model.vision_model(pixel_values.to(self.dtype), last_tiles)
        return features[feature_order]

    def embed(self, ids: Tensor, pixel_values: Any, feature_order: Any, last_tiles: Any) -> Tensor:
        """Token embeddings, to which the features of images are added."""
        embeddings: Tensor = self.model.language_model.embedding(ids)
        if pixel_values is None or not len(pixel_values):
            return embeddings
        features = self.get_image_features(pixel_values, feature_order, last_tiles).to(embeddings)
        places = (ids == self.config.image_token_id).flatten().nonzero()[:, 0]
        if len(places) != len(features):
            raise ValueError(f"{len(places)} image tokens and {len(features)} features; use the processor's ids")
        return embeddings.flatten(0, 1).index_add(0, places, features).view_as(embeddings)

    def forward(
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        feature_order: Any = None,
        last_tiles: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        use_cache: Any = None,
        logits_to_keep: int = 0,
        **others: Any,
    ) -> Any:
        if inputs_embeds is None:
            inputs_embeds = self.embed(input_ids, pixel_values, feature_order, last_tiles)
        text = self.config.text_config
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=text)
        seen = past_key_values.get_seq_length() if past_key_values is not None else 0
        if position_ids is None:
            position_ids = torch.arange(seen, seen + inputs_embeds.shape[1], device=inputs_embeds.device)[None]
        mask = create_causal_mask(text, inputs_embeds, attention_mask, past_key_values, position_ids)
        hidden = self.model.language_model(inputs_embeds, position_ids, mask, past_key_values)
        logits = self.lm_head(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        feature_order: Any = None,
        last_tiles: Any = None,
        inputs_embeds: Any = None,
        **others: Any,
    ) -> Any:
        """The new tokens."""
        if inputs_embeds is None:
            inputs_embeds = self.embed(input_ids, pixel_values, feature_order, last_tiles)
        return super().generate(inputs_embeds=inputs_embeds, **others)

    def prepare_inputs_for_generation(self, input_ids: Any, inputs_embeds: Any = None, **kwargs: Any) -> Any:
        return super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)


JinaVLMConfig.register_for_auto_class()
JinaVLM.register_for_auto_class("AutoModel")
JinaVLM.register_for_auto_class("AutoModelForCausalLM")
