"""Every family of models: packed equals one by one, in every loss and gradient; connectors by their published rules."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_models import LANGUAGE, MODELS, SCHEMES, config, facts, mixed, sample, shuffled

from stages.tiles.jina import Jina
from train.config import FamilyName
from train.data.collate import Pack, collate
from train.models import build
from train.models.families import FAMILIES
from train.models.family import ModelError
from train.models.vision_language import VisionLanguage


def made(name: str) -> VisionLanguage:
    model = build.build(config(name), facts(name)).train()
    shuffled(model)
    return model


def gradients(model: VisionLanguage, packs: list[Pack]) -> tuple[list[float], dict[str, torch.Tensor]]:
    model.zero_grad()
    losses = [model(pack).sum() for pack in packs]
    sum(losses).backward()
    return [loss.item() for loss in losses], {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("name", MODELS)
def test_packed_equals_one_by_one(name, again):
    """In float32, text alone, one image and several in one pack; each sample moved in the pack, too."""
    of, samples = facts(name), mixed(facts(name))
    apart, wanted = gradients(made(name), [collate([each], of) for each in samples])
    for order in ([0, 1, 2, 3, 4], [3, 0, 4, 2, 1]):
        model = made(name)
        if again:
            model.checkpoint_activations()
        packed, got = gradients(model, [collate([samples[number] for number in order], of)])
        assert sum(packed) == pytest.approx(sum(apart), rel=1e-5)
        for parameter, gradient in wanted.items():
            assert gradient is not None and got[parameter] is not None, parameter
            assert (got[parameter] - gradient).abs().max() <= 1e-5 * gradient.abs().max() + 1e-6, parameter


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns_from_a_mixed_pack(name):
    """So none is a layer that nobody reads."""
    _, found = gradients(made(name), [collate(mixed(facts(name)), facts(name))])
    idle = [parameter for parameter, gradient in found.items() if gradient is None or not gradient.any()]
    assert idle == []


@pytest.mark.parametrize("name", MODELS)
def test_layers_are_recomputed_only_when_asked(name):
    """The layers' own forward runs twice for a step, and once without."""
    of, counts = facts(name), []
    for again in (False, True):
        model, calls = made(name), []
        if again:
            model.checkpoint_activations()
        for layers in (model.vision.encoder.layers, model.decoder.layers):
            layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        model(collate(mixed(of), of)).sum().backward()
        counts.append(len(calls))
    assert counts == [2, 4]


@pytest.mark.parametrize("family", SCHEMES)
@pytest.mark.parametrize("cut_by", SCHEMES)
def test_a_family_reads_its_own_tile_schemes(family, cut_by):
    readable = family == cut_by or (family, cut_by) == ("internvl_siglip", "llava")
    other = dataclasses.replace(facts(family), scheme=facts(cut_by).scheme)
    if readable:
        assert build.build(config(family), other)
        return
    with pytest.raises(ModelError, match=rf"scheme {SCHEMES[cut_by].scheme}, and model\.family {family} reads"):
        build.build(config(family), other)


def test_the_table_has_the_families_of_the_config():
    assert list(FAMILIES) == list(FamilyName.__args__)
    assert all(name == family.name for name, family in FAMILIES.items())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("internvl_siglip", {"projector_size": 8}, r"model\.projector_size: model\.family internvl_siglip has no use"),
        ("llava", {"language": {**LANGUAGE, "extra_vocab_size": 8}}, r"model\.language\.extra_vocab_size: model\.fam"),
        ("jina", {"language": LANGUAGE}, r"tie_embeddings: is true, model\.family jina has a head of its own"),
        ("llava", {"language": {**LANGUAGE, "vocab_size": 20}}, r"vocab_size: 20 rows, the shards have ids up to 33"),
        (
            "jina",
            {"language": {**LANGUAGE, "tie_embeddings": False, "vocab_size": 20, "extra_vocab_size": 4}},
            "20 rows and 4 extra ones, the shards have ids up to 33; raise it to at least 30",
        ),
    ],
)
def test_a_key_that_a_family_has_no_use_for_is_refused(name, changes, message):
    with pytest.raises(ModelError, match=message):
        build.build(config(name, **changes), facts(name))


def test_tiles_whose_patches_are_merged_are_none_for_llava():
    of = facts("llava")
    merging = dataclasses.replace(of, scheme=dataclasses.replace(of.scheme, merge=2))
    with pytest.raises(ModelError, match="merge 2 x 2 patches"):
        build.build(config("llava"), merging)


def test_rows_of_jina_need_a_token_of_their_own():
    of = facts("jina")
    with pytest.raises(ModelError, match=r"name one in tokens\.row"):
        build.build(config("jina"), dataclasses.replace(of, tokens=dataclasses.replace(of.tokens, row=None)))


@pytest.mark.parametrize("name", MODELS)
def test_changing_one_image_changes_no_other_sample(name):
    of, samples, model = facts(name), mixed(facts(name)), made(name)
    other = dataclasses.replace(samples[1], images=sample(of, 9, (40, 30)).images)
    with torch.no_grad():
        before, after = (
            model.embed(pack.input_ids, pack.images)[0]
            for pack in (collate(samples, of), collate([samples[0], other, *samples[2:]], of))
        )
    start, end = len(samples[0].input_ids), len(samples[0].input_ids) + len(samples[1].input_ids)
    assert torch.allclose(before[:start], after[:start], atol=1e-6)
    assert torch.allclose(before[end:], after[end:], atol=1e-6)
    assert not torch.allclose(before[start:end], after[start:end], atol=1e-3)


def test_a_real_jina_image_has_its_published_tokens():
    """3 x 4 tiles: 196 of the whole image and R C of the grid, from 13 tiles of 196."""
    scheme = Jina()
    order = scheme.feature_order(scheme.grid(1024, 768), 0)
    assert len(order) == 1692 == len(set(order.tolist())) and order.max() < 13 * 196
