"""What jina-vlm is made of: the layers of its tower and its decoder, and the connector between the two.

Modules have the names and the shapes that published weights have: queries, keys and values in one matrix, their biases
apart.

Letters in names of shapes: N tiles, P patches along a side, Q pooled ones, m patches of a window, d decoder's width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, linear, scaled_dot_product_attention
from transformers.modeling_layers import GradientCheckpointingLayer

from train.models.jina_connector import SwiGLU, windows


class Biased(nn.Module):
    """A linear map whose weight is a module's, as published: {name}_w.weight."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))


class Norm(nn.Module):
    """RMSNorm in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class TowerAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_w = Biased(width, 3 * width)
        self.q_b, self.k_b, self.v_b = (nn.Parameter(torch.zeros(width)) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        both: Any = linear(x, self.qkv_w.weight, torch.cat([self.q_b, self.k_b, self.v_b]))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in both.chunk(3, -1))
        found: Tensor = self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return found


class TowerMlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down(gelu(self.up(x), approximate="tanh"))
        return found


class TowerLayer(GradientCheckpointingLayer):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.hidden_size
        self.attn_lnorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.ffn_lnorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attn = TowerAttention(width, config.num_attention_heads)
        self.ffn = TowerMlp(width, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.attn_lnorm(x))
        found: Tensor = x + self.ffn(self.ffn_lnorm(x))
        return found


class PatchEmbed(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, width)


class Pooling(nn.Module):
    """Attention of the mean of a window to what is in the window."""

    def __init__(self, wide: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_w, self.kv_w = Biased(wide, width), Biased(wide, 2 * width)
        self.q_b, self.k_b, self.v_b = (nn.Parameter(torch.zeros(width)) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, windows: Tensor) -> Tensor:
        mean: Any = linear(windows.mean(1, keepdim=True), self.q_w.weight, self.q_b)
        q = mean.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        both: Any = linear(windows, self.kv_w.weight, torch.cat([self.k_b, self.v_b]))
        k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in both.chunk(2, -1))
        found: Tensor = self.out(scaled_dot_product_attention(q, k, v).flatten(1))
        return found


class Connector(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        vision, merge = config.vision_config, config.pooling
        wide = vision.hidden_size * len(config.vit_layers)
        self.merge = merge
        self.pad_embed = nn.Parameter(torch.zeros(2, wide))
        self.pooling = Pooling(wide, vision.hidden_size, vision.num_attention_heads)
        self.projector = SwiGLU(vision.hidden_size, config.projector_size, config.text_config.hidden_size)

    def forward(self, patches: Tensor, last_tiles: Tensor) -> Tensor:
        """[N, P, P, wide] -> [N * Q^2, d]; the last tile of every picture gets the second padding embedding."""
        partial = patches.new_zeros(len(patches)).index_fill(0, last_tiles, 1.0)
        x = patches + partial[:, None, None, None] * self.pad_embed[1]
        found: Tensor = self.projector(self.pooling(windows(x, self.merge)))
        return found


class Vision(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        vision = config.vision_config
        self.patch, self.blocks = vision.patch_size, [at + vision.num_hidden_layers + 1 for at in config.vit_layers]
        self.patch_embed = PatchEmbed(3 * vision.patch_size**2, vision.hidden_size)
        self.pos_embed = nn.Parameter(torch.empty((vision.image_size // vision.patch_size) ** 2, vision.hidden_size))
        self.layers = nn.ModuleList(TowerLayer(vision) for _ in range(vision.num_hidden_layers))
        if getattr(vision, "post_lnorm", False):  # published, and read by nothing
            self.post_lnorm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.vl_connector = Connector(config)

    def forward(self, pixels: Tensor, last_tiles: Tensor) -> Tensor:
        n, _, size, _ = pixels.shape
        side = size // self.patch
        x = pixels.reshape(n, 3, side, self.patch, side, self.patch).permute(0, 2, 4, 3, 5, 1)
        x = self.patch_embed.proj(x.reshape(n, side**2, -1)) + self.pos_embed
        outputs = {}
        for number, layer in enumerate(self.layers[: max(self.blocks) + 1]):
            x = layer(x)
            outputs[number] = x
        seen = (pixels != -1).flatten(1).any(1)  # of a tile that is black all over nothing is
        both = torch.cat([outputs[number] for number in self.blocks], -1) * seen[:, None, None]
        found: Tensor = self.vl_connector(both.reshape(n, side, side, -1), last_tiles)
        return found


class Embedding(nn.Module):
    """The rows of the text model, and below them those of added tokens."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.hidden_size))
        if extra := getattr(config, "additional_vocab_size", 0):
            self.new_embedding = nn.Parameter(torch.empty(extra, config.hidden_size))

    def forward(self, ids: Tensor) -> Tensor:
        new = [self.new_embedding] if hasattr(self, "new_embedding") else []
        return embedding(ids, torch.cat([self.embedding, *new]))


class Attention(nn.Module):
    def __init__(self, config: Any, number: int) -> None:
        super().__init__()
        self.number, self.width = number, config.head_dim
        self.rows = [config.num_attention_heads * self.width] + 2 * [config.num_key_value_heads * self.width]
        self.qkv_w = Biased(config.hidden_size, sum(self.rows))
        self.q_b, self.k_b, self.v_b = (nn.Parameter(torch.zeros(rows)) for rows in self.rows)
        self.q_lnorm, self.k_lnorm = (Norm(self.width, config.rms_norm_eps) for _ in range(2))
        self.out = nn.Linear(self.rows[0], config.hidden_size, bias=False)

    def forward(self, x: Tensor, turn: Any, mask: Any, cache: Any) -> Tensor:
        both: Any = linear(x, self.qkv_w.weight, torch.cat([self.q_b, self.k_b, self.v_b]))
        q, k, v = (part.unflatten(-1, (-1, self.width)) for part in both.split(self.rows, -1))
        q, k = turn(self.q_lnorm(q).transpose(1, 2)), turn(self.k_lnorm(k).transpose(1, 2))
        v = v.transpose(1, 2)
        if cache is not None:
            k, v = cache.update(k, v, self.number)
        causal = mask is None and q.shape[2] > 1
        found = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=True)
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out


class Layer(GradientCheckpointingLayer):
    def __init__(self, config: Any, number: int) -> None:
        super().__init__()
        self.attn_lnorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.ffn_lnorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.attn = Attention(config, number)
        self.ffn = SwiGLU(config.hidden_size, config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor, turn: Any, mask: Any, cache: Any) -> Tensor:
        x = x + self.attn(self.attn_lnorm(x), turn, mask, cache)
        found: Tensor = x + self.ffn(self.ffn_lnorm(x))
        return found


class Language(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config)
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.num_hidden_layers))
        self.ln_f = Norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, positions: Tensor, mask: Any, cache: Any) -> Tensor:
        width, theta = self.config.head_dim, self.config.rope_parameters["rope_theta"]
        inverse = 1.0 / theta ** (torch.arange(0, width, 2, device=x.device).float() / width)
        angles = (positions[:, :, None].float() * inverse)[:, None].repeat(1, 1, 1, 2)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)

        def turn(part: Tensor) -> Tensor:
            left, right = part.chunk(2, -1)
            turned: Tensor = part * cos + torch.cat([-right, left], -1) * sin
            return turned

        for layer in self.layers:
            x = layer(x, turn, mask, cache)
        found: Tensor = self.ln_f(x)
        return found
