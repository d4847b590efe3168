"""jina-vlm's shape: SigLIP, two of its blocks side by side -> 2 x 2 attention pooling -> SwiGLU -> added to tokens.

    tiles [N, S, S, 3] uint8 -> blocks 24 and 18 of SigLIP (27 of them)    -> [N, P, P, 2 v]
                             -> padded to even sides, windows of m x m     -> [N * Q^2, m^2, 2 v]
                             -> attention of their mean to the m^2 patches -> [N * Q^2, v]
                             -> SwiGLU                                     -> [N * Q^2, d]

Of a tile's Q^2 features those in the margins towards a neighbour are dropped; the others are *added* to the embeddings
of the image tokens, which go line by line over all tiles of a grid (`feature_order`, stages/tiles/jina.py).

As the released code has it, and not the paper: the pads of a window are patches like others, in its mean and as keys
and values; a tile that is black all over has no features; and the last tile of every image gets `pad_embed[1]` (the
processor appends the mask of the padding at the end, and the whole image goes first). `pad_embed[0]` is for patches
that are padding; there are none where the image is stretched onto its grid. So it is trained by nothing, and kept.

The head has no rows for the tokens that were added for images (`extra_vocab_size`): the model reads them and can't say
them. Embedding and head are not tied.

Letters in names of shapes: N tiles, P patches along a side, Q pooled ones, W windows, H heads, v width of the tower.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from stages.tiles.jina import Jina as Tiles
from train.config import ModelConfig
from train.data.collate import Images
from train.data.shards import Facts
from train.models import jina_names, language, tower
from train.models.family import Family, ModelError, described, size
from train.models.jina_connector import SwiGLU, windows
from train.models.vision_language import VisionLanguage

_LAYERS = (-3, -9)


class Pooling(nn.Module):
    """Attention of the mean of a window to what is in the window: [W, m^2, wide] -> [W, width]."""

    def __init__(self, wide: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(wide, width), nn.Linear(wide, 2 * width), nn.Linear(width, width)

    def forward(self, windows: Tensor) -> Tensor:
        q = self.q(windows.mean(1, keepdim=True)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in self.kv(windows).chunk(2, -1))
        pooled: Tensor = self.out(scaled_dot_product_attention(q, k, v).flatten(1))
        return pooled


class Connector(nn.Module):
    """[N, P, P, wide] and the numbers of the last tiles of images -> [N * Q^2, d]."""

    def __init__(self, wide: int, width: int, heads: int, inner: int, out: int, merge: int) -> None:
        super().__init__()
        self.merge = merge
        self.pad_embed = nn.Parameter(torch.zeros(2, wide))
        self.pooling, self.projector = Pooling(wide, width, heads), SwiGLU(width, inner, out)

    def forward(self, patches_NPPw: Tensor, last_tiles: Tensor) -> Tensor:
        partial = patches_NPPw.new_zeros(len(patches_NPPw)).index_fill(0, last_tiles, 1.0)
        patches = patches_NPPw + partial[:, None, None, None] * self.pad_embed[1]
        pooled: Tensor = self.projector(self.pooling(windows(patches, self.merge)))
        return pooled


class Jina(VisionLanguage):
    def __init__(self, model: ModelConfig, scheme: Tiles, vocab_size: int) -> None:
        layers = tower.read_layers(model.vision, _LAYERS)
        vision = tower.siglip(model.vision, max(layers) + 1, scheme.tile, scheme.patch)
        vision.post_layernorm = nn.Identity()
        width, hidden = model.vision.hidden_size, model.language.hidden_size
        inner = model.projector_size or model.language.intermediate_size
        connector = Connector(width * len(layers), width, model.vision.num_heads, inner, hidden, scheme.merge)
        extra = model.language.extra_vocab_size or 0
        decoder = language.make(model.language, vocab_size - extra)
        table = nn.Embedding(vocab_size, hidden)
        nn.init.normal_(table.weight, std=decoder.config.initializer_range)
        decoder.model.embed_tokens = table
        super().__init__(vision, connector, decoder)
        self.layers = layers

    def features(self, images: Images) -> Tensor:
        patches = tower.block_outputs(self.vision, tower.siglip_pixels(images.tiles, self.dtype), self.layers)
        seen = images.tiles.flatten(1).any(1)
        side = round(patches.shape[1] ** 0.5)
        x_NPPw = (patches * seen[:, None, None]).reshape(len(patches), side, side, -1)
        features: Tensor = self.projector(x_NPPw, images.last_tiles)
        return features[images.feature_order]

    def place(self, flat_embeddings: Tensor, positions_M: Tensor, features_Md: Tensor) -> Tensor:
        return flat_embeddings.index_add(0, positions_M, features_Md)


def _make(model: ModelConfig, facts: Facts, vocab_size: int) -> Jina:
    assert isinstance(facts.scheme, Tiles)
    if facts.tokens.row is None:
        raise ModelError("data.shards: their rows of image tokens end in none of their own; name one in tokens.row")
    if model.language.tie_embeddings:
        raise ModelError("model.language.tie_embeddings: is true, model.family jina has a head of its own; set false")
    if vocab_size <= (model.language.extra_vocab_size or 0):
        raise ModelError(
            f"model.language.extra_vocab_size: {model.language.extra_vocab_size} of {vocab_size} rows; lower it"
        )
    return Jina(model, facts.scheme, vocab_size)


def _tile_cost(made: VisionLanguage, facts: Facts) -> float:
    assert isinstance(facts.scheme, Tiles) and isinstance(made.projector, Connector)
    side, pooled = facts.scheme.tile // facts.scheme.patch, _pooled(facts.scheme)
    values = size(made.projector.pooling.kv)
    others = size(made.projector) - values
    return float(size(made.vision.encoder) * side**2 + values * pooled * facts.scheme.merge**2 + others * pooled)


def _pooled(scheme: Tiles) -> int:
    """Features of a tile."""
    across = -(-(scheme.tile // scheme.patch) // scheme.merge)
    return across**2


def _projector_flops(made: VisionLanguage, facts: Facts) -> float:
    assert isinstance(facts.scheme, Tiles) and isinstance(made.projector, Connector)
    connector, square = made.projector, facts.scheme.merge**2
    pooled = _pooled(facts.scheme)
    width, values = connector.pooling.q.out_features, connector.pooling.kv.weight.numel()
    matrices = [connector.pooling.q, connector.pooling.out, connector.projector.up, connector.projector.down]
    once = sum(matrix.weight.numel() for matrix in matrices)
    return 2.0 * pooled * (once + square * values) + 4.0 * pooled * square * width


def _describe(made: VisionLanguage, model: ModelConfig, facts: Facts) -> dict[str, Any]:
    assert isinstance(made, Jina) and isinstance(facts.scheme, Tiles)
    depth = tower.drawn_layers(model.vision, made.layers, made.unread)
    extra = model.language.extra_vocab_size or 0
    return {
        "model_type": "jvlm",
        "architectures": ["JinaVLM"],
        "undrawn_layers": model.vision.num_layers - depth,
        "vision_config": described(
            made.vision,
            num_hidden_layers=depth,
            vision_use_head=False,
            post_lnorm="vision.post_layernorm.weight" in made.unread,
        ),
        "text_config": described(made.language, additional_vocab_size=extra),
        "tie_word_embeddings": False,
        "image_token_id": facts.image_token_id,
        # Of the blocks' outputs and the last norm's
        "vit_layers": [layer - depth - 1 for layer in made.layers],
        "pooling": facts.scheme.merge,
        "projector_size": model.projector_size or model.language.intermediate_size,
    }


FAMILY = Family(
    name="jina",
    reads=(Tiles,),
    make=_make,
    names=(),
    describe=_describe,
    tile_cost=_tile_cost,
    projector_flops=_projector_flops,
    fold=jina_names.fold,
    unfold=jina_names.unfold,
)
