"""The towers: transformers' own SigLIP and CLIP, of which only the layers are made whose outputs are read.

`feature_layers` of a config are blocks of the tower, numbered from 0 or, as -1, -2, ..., from the last; of a block
its output is meant. With LLaVA's -2 the last of CLIP's 24 blocks is not made; of jina-vlm's -3 and -9 (27 blocks: 24
and 18) two are not, and neither is the norm after the last one, nor CLIP's or SigLIP's summary of a whole image.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from train.config import Vision

# OpenAI's CLIP; SigLIP has 0.5 of everything
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def sizes(vision: Vision, num_layers: int, tile: int, patch: int) -> dict[str, Any]:
    return {
        "hidden_size": vision.hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": vision.num_heads,
        "intermediate_size": vision.intermediate_size,
        "image_size": tile,
        "patch_size": patch,
        "attn_implementation": "sdpa",
    }


def siglip(vision: Vision, num_layers: int, tile: int, patch: int) -> nn.Module:
    """So many layers of SigLIP, without the attention-pooled summary, which a language model does not read."""
    config = SiglipVisionConfig(**sizes(vision, num_layers, tile, patch), vision_use_head=False)
    made: nn.Module = SiglipVisionModel(config)
    return made


def clip(vision: Vision, num_layers: int, tile: int, patch: int) -> nn.Module:
    """So many layers of CLIP; the norm of its summary is not made."""
    made: nn.Module = CLIPVisionModel(CLIPVisionConfig(**sizes(vision, num_layers, tile, patch)))
    made.post_layernorm = nn.Identity()
    return made


def read_layers(vision: Vision, default: tuple[int, ...]) -> list[int]:
    """The blocks that are read, numbered from 0."""
    return [layer % vision.num_layers for layer in vision.feature_layers or default]


def drawn_layers(vision: Vision, layers: list[int], unread: Iterable[str]) -> int:
    """How many layers of a tower there are weights of: all, or where it was drawn here those that are read."""
    whole = any(name.startswith("vision.encoder.layers.") for name in unread)
    return vision.num_layers if whole else max(layers) + 1


def block_outputs(tower: nn.Module, pixels_N3SS: Tensor, layers: list[int]) -> Tensor:
    """The outputs of some blocks, side by side: [N, tokens, width * number of blocks]."""
    parts: Any = tower
    x: Tensor = parts.embeddings(pixels_N3SS)
    if hasattr(parts, "pre_layrnorm"):
        x = parts.pre_layrnorm(x)
    outputs = {}
    for number, block in enumerate(parts.encoder.layers):
        x = block(x, None)
        if number in layers:
            outputs[number] = x
    return torch.cat([outputs[number] for number in layers], dim=-1)


def siglip_pixels(tiles_NSS3: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 -> [-1, 1], [N, 3, S, S]."""
    return tiles_NSS3.permute(0, 3, 1, 2).to(dtype) / 127.5 - 1.0


def clip_pixels(tiles_NSS3: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 -> CLIP's normal form, [N, 3, S, S]."""
    mean, std = _clip(tiles_NSS3.device, dtype)
    return (tiles_NSS3.permute(0, 3, 1, 2).to(dtype) / 255 - mean) / std


@functools.cache
def _clip(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and deviation; made once, for a copy to a GPU waits for it."""
    mean, std = (torch.tensor(x, dtype=dtype, device=device).view(3, 1, 1) for x in (_CLIP_MEAN, _CLIP_STD))
    return mean, std
