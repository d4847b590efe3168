"""Connectors by their published rules, token by token: transformers' own classes, or a second writing of the rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_train_families import made
from tiny_models import facts, mixed, sample
from torch import Tensor
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.molmo2.configuration_molmo2 import Molmo2AdapterConfig
from transformers.models.molmo2.modeling_molmo2 import Molmo2Adapter

from stages.tiles.jina import Jina
from stages.tiles.scheme import Grid
from train.data.collate import Images, collate
from train.models.jina import Connector
from train.models.jina_connector import windows

TEXT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
TOWER = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32, "vision_use_head": False}


def test_internvl_with_llama_gives_the_losses_of_transformers():
    """The order within a folded square, of squares, of tiles and images, and the projector; on the same weights."""
    torch.manual_seed(4)
    text = LlamaConfig(vocab_size=34, intermediate_size=48, head_dim=8, **TEXT)
    vision = SiglipVisionConfig(num_hidden_layers=3, image_size=16, patch_size=4, **TOWER)
    theirs = InternVLForConditionalGeneration(
        InternVLConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=30,
            vision_feature_select_strategy="full",
            downsample_ratio=0.5,
            tie_word_embeddings=False,
        )
    ).eval()
    ours, of = made("internvl_siglip+llama"), facts("internvl_siglip")
    names = {"vision": "model.vision_tower", "language.model": "model.language_model", "language.lm_head": "lm_head"}
    numbers = {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}
    names |= {f"projector.{number}": f"model.multi_modal_projector.{name}" for number, name in numbers.items()}
    given = {}
    for name, tensor in ours.state_dict().items():
        part = next(part for part in names if name.startswith(part + "."))
        given[names[part] + name.removeprefix(part)] = tensor
    theirs.load_state_dict(given)
    for each in mixed(of):
        pack = collate([each], of)
        pixels = pack.tiles.permute(0, 3, 1, 2) / 127.5 - 1 if len(pack.tiles) else None
        wanted = theirs(input_ids=pack.input_ids, pixel_values=pixels, labels=pack.labels, use_cache=False).loss
        assert ours(pack).sum().item() == pytest.approx(wanted.item() * pack.num_targets, rel=1e-5)


def pooled_by_hand(connector: Connector, window: Tensor) -> Tensor:
    """One window [4, wide] -> [d], head by head: the released rule, written a second time."""
    pooling, heads = connector.pooling, connector.pooling.heads
    query = pooling.q.weight @ (window.sum(0) / 4) + pooling.q.bias
    both = [pooling.kv.weight @ patch + pooling.kv.bias for patch in window]
    width = len(query)
    each = width // heads
    found = []
    for head in range(heads):
        own = slice(head * each, (head + 1) * each)
        scores = torch.stack([query[own] @ kv[:width][own] for kv in both]) / math.sqrt(each)
        found.append(sum(share * kv[width:][own] for share, kv in zip(scores.softmax(0), both, strict=True)))
    pooled = pooling.out.weight @ torch.cat(found) + pooling.out.bias
    inner = connector.projector.up.weight @ pooled
    value, gate = inner[: len(inner) // 2], inner[len(inner) // 2 :]
    return connector.projector.down.weight @ (gate / (1 + (-gate).exp()) * value)


def patches_by_transformers(model, images: Images) -> Tensor:
    """Blocks -3 and -9 of ten, from transformers' own forward: [N, 7, 7, 48]."""
    tower = SiglipVisionModel(SiglipVisionConfig(num_hidden_layers=8, image_size=28, patch_size=4, **TOWER))
    tower.load_state_dict(model.vision.state_dict(), strict=False)
    pixels = images.tiles.permute(0, 3, 1, 2) / 127.5 - 1
    hidden = tower(pixels, output_hidden_states=True).hidden_states  # of these the first is the embedding
    return torch.cat([hidden[8], hidden[2]], -1).unflatten(1, (7, 7))


def jina_by_hand(model, of, each) -> Tensor:
    """The features of a sample's image tokens, placed by where a token lies in the picture."""
    pack = collate([each], of)
    patches = patches_by_transformers(model, pack.images)
    found, tile = [], 0
    for span in each.image_spans:
        own = patches[tile : tile + span.grid.num_tiles].clone()
        own[-1] += model.projector.pad_embed[1]
        tile += span.grid.num_tiles
        pooled = {}
        for number, crop in enumerate(own):
            padded = torch.zeros(8, 8, 48)
            padded[:7, :7] = crop
            for line in range(4):
                for col in range(4):
                    window = padded[2 * line : 2 * line + 2, 2 * col : 2 * col + 2].reshape(4, -1)
                    pooled[number, line, col] = pooled_by_hand(model.projector, window)
        found += [pooled[0, line, col] for line in range(4) for col in range(4)]
        lines, cols = lines_of(span.grid.rows, 7, 2, 2), lines_of(span.grid.cols, 7, 2, 2)
        for row, line in lines:
            found += [pooled[1 + row * span.grid.cols + over, line, col] for over, col in cols]
    return torch.stack(found)


def lines_of(tiles: int, side: int, margin: int, merge: int) -> list[tuple[int, int]]:
    """(tile, pooled line) in order: of the two halves of an overlap each tile keeps the nearer one."""
    pooled, window = -(-side // merge), side - 2 * margin
    if tiles == 1:
        return [(0, line) for line in range(pooled)]
    kept = []
    for tile in range(tiles):
        first = 0 if tile == 0 else margin // merge
        count = -(-window // merge) if 0 < tile < tiles - 1 else -(-(window + margin) // merge)
        kept += [(tile, line) for line in range(first, first + count)]
    return kept


def test_jina_is_its_released_rule_from_pixels_to_tokens():
    model, of = made("jina"), facts("jina")
    with torch.no_grad():
        for each in (sample(of, 1, (40, 30)), sample(of, 2, (60, 20), (16, 16), (30, 90))):
            pack = collate([each], of)
            ours, theirs = model.features(pack.images), jina_by_hand(model, of, each)
            assert ours.shape == theirs.shape == (len(pack.image_positions), 32)
            assert torch.allclose(ours, theirs, atol=1e-5)
            plain = model.embedding(pack.input_ids)[0]
            added = model.embed(pack.input_ids, pack.images)[0] - plain
            assert torch.allclose(added[pack.image_positions], theirs, atol=1e-5)
            others = torch.ones(len(plain), dtype=torch.bool)
            others[pack.image_positions] = False
            assert not added[others].any()


def test_a_tile_that_is_black_all_over_has_no_features_but_the_last_one_its_mark():
    model, of = made("jina"), facts("jina")
    images = collate([sample(of, 1, (90, 30))], of).images
    black = images.tiles.clone()
    black[1:] = 0
    count = len(images.tiles)
    assert count > 2
    with torch.no_grad():
        one = model.features(Images(black, images.positions, torch.arange(16 * count), images.last_tiles))
        zeros = pooled_by_hand(model.projector, torch.zeros(4, 48))
        assert torch.allclose(one[16 : 16 * (count - 1)], zeros.expand(16 * (count - 2), -1), atol=1e-6)
        marked = pooled_by_hand(model.projector, model.projector.pad_embed[1].expand(4, -1))
        assert torch.allclose(one[16 * (count - 1)], marked, atol=1e-6)


def test_pooling_is_that_of_molmo2_where_a_window_is_full():
    """On 2 x 27 x 27 patches, with the released sizes in small; the last row and column are pooled with pads here."""
    torch.manual_seed(2)
    theirs = Molmo2Adapter(
        Molmo2AdapterConfig(
            vision_feature_layer=[1, 0],
            hidden_size=16,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=4,
            intermediate_size=20,
            text_hidden_size=12,
        )
    )
    ours = Connector(32, 16, 4, 20, 12, 2)
    attention, mlp = theirs.image_pooling_2d, theirs.image_projector
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.3)
        for mine, other in ((ours.pooling.q, attention.q_proj), (ours.pooling.out, attention.o_proj)):
            mine.load_state_dict(other.state_dict())
        both = (attention.k_proj, attention.v_proj)
        ours.pooling.kv.weight.copy_(torch.cat([each.weight for each in both]))
        ours.pooling.kv.bias.copy_(torch.cat([each.bias for each in both]))
        ours.projector.up.weight.copy_(torch.cat([mlp.up_proj.weight, mlp.gate_proj.weight]))
        ours.projector.down.load_state_dict(mlp.down_proj.state_dict())
        patches = torch.randn(2, 27, 27, 32)
        index = torch.full((2, 28, 28), -1)
        index[:, :27, :27] = torch.arange(2 * 27 * 27).reshape(2, 27, 27)
        index = index.reshape(2, 14, 2, 14, 2).transpose(2, 3).reshape(-1, 4)
        wanted = theirs(patches, index).last_hidden_state.reshape(2, 14, 14, 12)
        got = ours(patches, torch.tensor([1])).reshape(2, 14, 14, 12)
    assert torch.allclose(got[:, :13, :13], wanted[:, :13, :13], atol=1e-5)
    assert not torch.isclose(got, wanted, atol=1e-3).all(-1)[:, 13].any()


def test_windows_are_squares_of_neighbours_with_zeros_at_the_end():
    x = torch.arange(1.0, 10).reshape(1, 3, 3, 1)
    assert windows(x, 2)[..., 0].tolist() == [[1, 2, 4, 5], [3, 0, 6, 0], [7, 8, 0, 0], [9, 0, 0, 0]]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3))
def test_image_tokens_of_jina_lie_side_by_side_in_the_picture(rows, cols, first):
    """In the order of the tokens the features cover the canvas from left to right and from top to bottom."""
    scheme = Jina(max_tiles=36)
    order = scheme.feature_order(Grid(rows, cols, True), first) - 196 * first
    assert (order[:196] == np.arange(196)).all()
    tile, (line, col) = order[196:] // 196 - 1, np.divmod(order[196:] % 196, 14)
    assert tile.min() >= 0 and tile.max() == rows * cols - 1
    # Patches between a tile and the next: 19
    top, left = (tile // cols * 19 + 2 * line), (tile % cols * 19 + 2 * col)
    down, across = 10 * rows + 4, 10 * cols + 4
    tops, lefts = top.reshape(down, across), left.reshape(down, across)
    assert (tops == tops[:, :1]).all() and (lefts == lefts[:1]).all()
    for starts, tiles in ((tops[:, 0], rows), (lefts[0], cols)):
        assert set(np.diff(starts)) <= {1, 2} and starts[0] == 0 and starts[-1] + 2 >= 27 + 19 * (tiles - 1)


def test_sizes_of_the_released_jina_connector():
    """36.0 million parameters: query, keys and values, output, SwiGLU; biases of the first three; two pads."""
    with torch.device("meta"):
        connector = Connector(2304, 1152, 16, 6144, 2048, 2)
    matrices = 2304 * 1152 + 2304 * 2304 + 1152**2 + 2 * 1152 * 6144 + 6144 * 2048
    assert sum(p.numel() for p in connector.parameters()) == matrices + 1152 + 2304 + 1152 + 2 * 2304
