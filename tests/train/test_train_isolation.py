"""Packed equals one by one: the same losses and the same gradients, with text and with images, by two oracles.

The first oracle runs the samples alone through the same model. The second is the transformers library's own attention
and its own loss over all positions, on the same weights: it shares neither our attention nor our choice of positions.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import yaml
from tiny_shards import CONFIG, merged
from torch import Tensor

from schemas import strict
from train.config import Config, ModelConfig
from train.data.collate import Images, Pack, collate
from train.data.shards import Shards
from train.models import build
from train.models.internvl_siglip import InternVLSiglip, pixel_shuffle


@pytest.fixture(scope="module")
def opened(shards):
    return Shards(shards)


def fresh(opened: Shards) -> InternVLSiglip:
    config = strict.build(Config, yaml.safe_load(yaml.safe_dump(merged(CONFIG))))
    return build.build(config.model, opened.facts).double()


def packs(opened: Shards, kind: str) -> list[Pack]:
    """One pack for each of eight samples of a kind."""
    samples = [opened.sample(number) for number in range(len(opened))]
    chosen = [sample for sample in samples if kind == "mixed" or bool(sample.images) == (kind == "image")]
    return [collate([sample], opened.facts) for sample in chosen[:8]]


def joined(single: list[Pack]) -> Pack:
    """The same samples in one pack."""
    ends, tiles, features = [0], 0, 0
    positions, orders, last = [], [], []
    for pack in single:
        images = pack.images
        positions.append(images.positions + ends[-1])
        orders.append(images.feature_order + features)
        last.append(images.last_tiles + tiles)
        tiles, features = tiles + len(images.tiles), features + len(images.feature_order)
        ends.append(ends[-1] + pack.sample_ends[-1])
    rows = {name: torch.cat([getattr(p, name) for p in single], 1) for name in ("input_ids", "position_ids", "labels")}
    targets = torch.cat([pack.target_positions + start for pack, start in zip(single, ends, strict=False)])
    members = tuple(member for pack in single for member in pack.samples)
    images = Images(torch.cat([p.tiles for p in single]), *map(torch.cat, (positions, orders, last)))
    bounds = torch.tensor(ends, dtype=torch.int32)
    return Pack(**rows, images=images, target_positions=targets, sample_ends=ends, ends=bounds, samples=members)


def gradients(model: InternVLSiglip) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def reference_loss(model: InternVLSiglip, pack: Pack) -> Tensor:
    """One sample by transformers alone: sdpa, a head over every position, its own shift of the labels."""
    model.language.set_attn_implementation("sdpa")
    embeddings = model.embed(pack.input_ids, pack.images)
    loss: Tensor = model.language(inputs_embeds=embeddings, labels=pack.labels, use_cache=False).loss
    return loss * pack.num_targets


@pytest.mark.parametrize("kind", ["text", "image", "mixed"])
@pytest.mark.parametrize("oracle", ["alone", "transformers"])
def test_packed_equals_one_by_one(opened, kind, oracle):
    single = packs(opened, kind)
    packed = fresh(opened)
    loss = packed(joined(single)).sum()
    loss.backward()

    apart = fresh(opened)
    losses = [reference_loss(apart, pack) if oracle == "transformers" else apart(pack).sum() for pack in single]
    sum(losses).backward()

    assert float(loss.detach()) == pytest.approx(float(sum(losses).detach()), rel=1e-5)
    wanted, got = gradients(apart), gradients(packed)
    assert got.keys() == wanted.keys() and len(got) > 10
    for name in wanted:
        # transformers computes norms and logits in float32 whatever the model is: 1e-5 of the largest entry.
        # (The gradient of a key's bias is zero but for rounding: softmax does not see a shift of all keys.)
        assert (got[name] - wanted[name]).abs().max() <= 1e-5 * wanted[name].abs().max() + 1e-15, name


def test_collate_packs_as_the_test_does(opened):
    single = packs(opened, "mixed")
    samples = [opened.sample(number) for number in range(8)]
    packed = collate(samples, opened.facts)
    for one, other in ((packed, joined(single)), (packed.images, joined(single).images)):
        for field in dataclasses.fields(one):
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            assert field.name == "images" or (torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs)


def test_changing_one_sample_leaves_the_losses_of_its_neighbours(opened):
    """The gradient of the last sample's loss does not reach the embeddings of the samples before it."""
    model, pack = fresh(opened), joined(packs(opened, "image"))
    last = pack.sample_ends[-2]
    embeddings = model.embed(pack.input_ids, pack.images).detach().requires_grad_()
    hidden = model.language.model(
        inputs_embeds=embeddings, position_ids=pack.position_ids, use_cache=False, cu_seq_lens_q=pack.sample_ends
    ).last_hidden_state
    hidden[0, last:].square().sum().backward()
    assert not embeddings.grad[0, :last].any() and embeddings.grad[0, last:].any()


def test_a_mask_is_refused_rather_than_ignored(opened):
    """By the decoder, for transformers drops it, and by the attention of a layer."""
    model, pack = fresh(opened), packs(opened, "text")[0]
    mask = torch.ones_like(pack.input_ids)
    four_d = mask.bool()[None, :, None, :].expand(1, 1, pack.input_ids.shape[1], -1)
    states = model.embedding(pack.input_ids)
    for each in (mask, four_d):
        with pytest.raises(ValueError, match="wanted None"):
            model.language(inputs_embeds=states, attention_mask=each)
    turns = model.language.model.rotary_emb(states, pack.position_ids)
    with pytest.raises(ValueError, match="wanted None"):
        model.language.model.layers[0].self_attn(states, position_embeddings=turns, attention_mask=four_d)


def test_a_pack_without_the_ends_of_its_samples_is_refused(opened):
    model, pack = fresh(opened), joined(packs(opened, "text"))
    with pytest.raises(ValueError, match="without cu_seq_lens_q"):
        model.language(input_ids=pack.input_ids, position_ids=pack.position_ids, use_cache=False)


def test_pixel_shuffle_folds_squares_of_neighbours():
    x = torch.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    folded = pixel_shuffle(x, 2)
    for token, (row, column) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        square = [x[:, row + i, column + j] for i in (0, 1) for j in (0, 1)]
        assert torch.equal(folded[:, token], torch.cat(square, dim=1))


def test_weights_depend_on_the_seed_alone(opened):
    model: ModelConfig = strict.build(Config, merged(CONFIG)).model
    torch.manual_seed(123)
    one = build.build(model, opened.facts).state_dict()
    before = torch.random.get_rng_state()
    two = build.build(model, opened.facts).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = build.build(dataclasses.replace(model, init_seed=2), opened.facts).state_dict()
    assert any(not torch.equal(one[name], other[name]) for name in one)
