"""Adapters: alone in learning, merged the same function, the same draws for a resumed run, and peft's files."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from train import config, run_folder, trainer
from train.checkpoint import CheckpointError
from train.data.collate import collate
from train.distributed.gradient import accumulate
from train.inference import Answerer
from train.models import build, lora, pretrained, published
from train.models.family import ModelError

LORA = {"rank": 4, "alpha": 12}
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def made(name: str = "llava", learnt: bool = True, **changes):
    """A model with adapters; as if they had learnt something."""
    model = build.build(tiny_models.config(name, lora={**LORA, **changes}), tiny_models.facts(name))
    torch.manual_seed(3)
    for key, parameter in model.named_parameters():
        if learnt and key.endswith("lora_B.weight"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def mixed(name: str = "llava"):
    facts = tiny_models.facts(name)
    return collate(tiny_models.mixed(facts), facts)


FAMILIES = [name for name in tiny_models.MODELS if "moe" not in name]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_begins_as_its_base_and_only_adapters_of_the_decoder_learn(name):
    base = build.build(tiny_models.config(name), tiny_models.facts(name))
    model = made(name, learnt=False)
    loss = model(mixed(name)).sum()
    assert torch.equal(loss, base(mixed(name)).sum())
    loss.backward()
    learns = {key for key, p in model.named_parameters() if key.startswith("language.") and p.requires_grad}
    wanted = [(layer, end, x) for layer in range(2) for end in LAYERS for x in "AB"]
    assert len(learns) == len(wanted) and all(
        any(f".{layer}." in key and key.endswith(f"{end}.lora_{x}.weight") for key in learns)
        for layer, end, x in wanted
    )
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad == (key in learns or key[:9] != "language."), key
    weights = model.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in base.state_dict().items())


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_it_is_the_same_function(name, tmp_path):
    """Published, it is a model without adapters."""
    model = made(name)
    published.save(tmp_path / "model", model, tiny_models.config(name, lora=LORA), tiny_models.facts(name))
    of = tiny_models.config(name, **{"from": str(tmp_path / "model"), "init_seed": 77})
    again = build.build(of, tiny_models.facts(name))
    pretrained.load(again, of, tiny_models.facts(name))
    base = build.build(tiny_models.config(name), tiny_models.facts(name))
    one, two, without = (x(mixed(name)).sum().item() for x in (model, again, base))
    assert one == pytest.approx(two, rel=1e-5) and abs(one - without) > 1e-3


def test_it_is_merged_in_float32_and_rounded_once():
    model = made()
    layer = model.decoder.layers[1].mlp.down_proj
    layer.weight.data = layer.weight.data.bfloat16()
    exact = layer.weight.double() + 3 * layer.lora_B.weight.double() @ layer.lora_A.weight.double()
    found = lora.merged(model)["language.model.layers.1.mlp.down_proj.weight"]
    assert found.dtype == torch.bfloat16 and torch.equal(found, exact.bfloat16())


# ---- dropout


def dropped(model, pack, step: int) -> float:
    model.step = step
    return float(model(pack).sum().detach())


def test_what_is_dropped_is_of_the_step_the_pack_and_the_seed_and_nothing_in_evaluation():
    model, facts = made(dropout=0.3).train(), tiny_models.facts("llava")
    pack = mixed()
    kept = dropped(made(), pack, 0)
    assert dropped(model, pack, 1) == dropped(model, pack, 1) != kept
    assert dropped(model, pack, 1) != dropped(model, pack, 2)
    other = build.build(tiny_models.config("llava", lora={**LORA, "dropout": 0.3}, init_seed=2), facts).train()
    other.load_state_dict(model.state_dict())
    assert dropped(other, pack, 1) != dropped(model, pack, 1)
    assert dropped(model.eval(), pack, 1) == kept


def test_layers_and_packs_of_a_step_draw_apart_and_the_mean_stays():
    model, drawn = made(dropout=0.25).train(), []
    layers = model.decoder.layers
    for layer in (layers[0].self_attn.q_proj, layers[1].self_attn.q_proj):
        layer.lora_A.register_forward_pre_hook(lambda _, given: drawn.append(given[0] == 0))
    facts = tiny_models.facts("llava")
    for number in (1, 2):
        model(collate([tiny_models.sample(facts, number, (16, 16)), *tiny_models.mixed(facts)[: number + 1]], facts))
    rows = min(x.shape[1] for x in drawn)
    found = [x[:, :rows] for x in drawn]
    assert all(not torch.equal(one, two) for number, one in enumerate(found) for two in found[:number])
    assert float(torch.cat([x.flatten().float() for x in drawn]).mean()) == pytest.approx(0.25, abs=0.01)
    layer = layers[0].mlp.up_proj
    kept = torch.stack([layer_mean(layer, step) for step in range(400)]).mean(0)
    assert torch.allclose(kept, torch.ones(32), atol=0.15)


def test_packs_of_equal_lengths_draw_apart():
    """Their samples differ in nothing but the name."""
    facts, model, drawn = tiny_models.facts("llava"), made(dropout=0.25).train(), []
    layer = model.decoder.layers[0].self_attn.q_proj
    layer.lora_A.register_forward_pre_hook(lambda _, given: drawn.append(given[0] == 0))
    for name in ("a", "b", "a"):
        model(collate([dataclasses.replace(tiny_models.sample(facts, 1), sample_id=name)], facts))
    assert not torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


def layer_mean(layer, step: int) -> torch.Tensor:
    lora.chance.of_pack((step,))
    return layer._dropped(torch.ones(32))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_recomputed_layers_draw_the_same(threads):
    """The gradients, too: a layer that is computed again has to drop what it dropped."""
    facts = tiny_models.facts("llava")
    packs = [collate([tiny_models.sample(facts, number, (40, 30))], facts) for number in range(4)]
    found = []
    for again in (False, True):
        model = made(dropout=0.3).train()
        if again:
            model.checkpoint_activations()
        with ThreadPoolExecutor(threads if again else 2) as pool:
            loss, _ = accumulate(model, packs, pool)
        found.append((loss, {key: p.grad for key, p in model.named_parameters() if p.grad is not None}))
    assert found[0][0] == found[1][0] and found[0][1].keys() == found[1][1].keys()
    assert all(torch.equal(gradient, found[1][1][key]) for key, gradient in found[0][1].items())


def test_a_layer_computed_again_on_another_thread_draws_the_same():
    """As on a GPU, whose backward pass has a thread of its own."""
    model = made(dropout=0.3).train()
    model.checkpoint_activations()
    parameters = [p for p in model.parameters() if p.requires_grad]
    wanted = torch.autograd.grad(model(mixed()).sum(), parameters)
    with ThreadPoolExecutor(1) as elsewhere:
        found = elsewhere.submit(torch.autograd.grad, model(mixed()).sum(), parameters).result()
    assert all(map(torch.equal, wanted, found))


# ---- a run


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_run_with_adapters_goes_on_bit_for_bit_and_answers(write_config, tmp_path, monkeypatch, compute):
    keys = {
        "model.lora": {**LORA, "dropout": 0.1},
        "optimiser.parts": {"vision": "frozen", "projector": {"learning_rate": 0.001}},
        **{"optimiser.matrices": "adamw", "optimiser.compute": compute, "data.epochs": 1},
    }

    def run(name: str, watch=None) -> dict[str, torch.Tensor]:
        trainer.fit(config.load(write_config(**{"run.out": str(tmp_path / name), **keys})), watch)
        folder, _ = run_folder.newest(tmp_path / name)
        return load_file(folder / "model-r00000.safetensors") | load_file(folder / "optimiser-r00000.safetensors")

    def killed(line) -> None:
        if line.step == 5:
            raise KeyboardInterrupt

    steps, of_pack = set(), lora.chance.of_pack
    monkeypatch.setattr(lora.chance, "of_pack", lambda key: steps.add(key[0]) or of_pack(key))
    whole = run("whole")
    assert steps == set(range(8))  # each draws its own
    with pytest.raises(KeyboardInterrupt):
        run("killed", killed)
    again = run("killed")
    assert whole.keys() == again.keys() and all(torch.equal(tensor, again[key]) for key, tensor in whole.items())
    assert all(x.dtype == torch.float32 for key, x in whole.items() if "lora" in key)
    assert any(x.any() for key, x in whole.items() if key.endswith("lora_B.weight"))
    folder, _ = run_folder.newest(tmp_path / "whole")
    assert isinstance(Answerer.open(folder).answer([{"role": "user", "content": "Say yes."}]), str)


def test_adapters_begin_on_a_checkpoint_without_any(write_config, tmp_path):
    """A second stage on a first one; its own adapters go on to a third."""
    first, second = tmp_path / "first", tmp_path / "second"
    trainer.fit(config.load(write_config(**{"run.out": str(first), "data.epochs": 1})))
    begin = {"model.from": str(first), "model.lora": LORA, "optimiser.learning_rate": 1e-30, "data.epochs": 1}
    begun = config.load(write_config(**{"run.out": str(second), **begin}))
    trainer.fit(begun)
    (one, _), (two, _) = run_folder.newest(first), run_folder.newest(second)
    base, adapted = (load_file(folder / "model-r00000.safetensors") for folder in (one, two))
    shards = trainer.open_shards(begun.data.shards)
    language = {key for key in base if key.startswith("language.")}
    assert language and all(torch.equal(base[key], adapted[key]) for key in language)
    without = config.load(write_config(**{"model.from": str(second)}))
    with pytest.raises(CheckpointError, match=r"model\.lora.*: .* was made with"):
        pretrained.load(build.build(without.model, shards.facts), without.model, shards.facts)
    third = config.load(write_config(**{**begin, "model.from": str(second), "model.init_seed": 9}))
    model = build.build(third.model, shards.facts)
    pretrained.load(model, third.model, shards.facts)
    assert all(torch.equal(tensor, adapted[key]) for key, tensor in model.state_dict().items() if lora.is_adapter(key))


# ---- peft


# peft asks transformers by a name that is on its way out
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_reads_the_adapters(tmp_path):
    """Beside the base model that transformers reads: the same logits, and other ones than the base's."""
    peft = pytest.importorskip("peft")
    of, facts = tiny_models.config("llava", lora=LORA), tiny_models.facts("llava")
    model = made()
    base = build.build(tiny_models.config("llava"), facts)
    base.load_state_dict({key: x for key, x in model.state_dict().items() if not lora.is_adapter(key)})
    published.save(tmp_path / "base", base, tiny_models.config("llava"), facts)
    published.save_adapter(tmp_path / "adapter", model, of)
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "base")
    pack = collate([tiny_models.sample(facts, 1)], facts)
    given = {"input_ids": pack.input_ids, "labels": pack.labels, "use_cache": False}
    without = theirs(**given).loss.item()
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter")
    loss = adapted(**given).loss.item()
    assert loss * pack.num_targets == pytest.approx(model(pack).sum().item(), rel=1e-5) and abs(loss - without) > 1e-3
    merged = adapted.merge_and_unload().state_dict()
    ours = lora.merged(model)
    for name in ("0.self_attn.q_proj", "1.mlp.down_proj"):
        wanted = ours[f"language.model.layers.{name}.weight"]
        assert torch.allclose(merged[f"model.language_model.layers.{name}.weight"], wanted, atol=1e-6)


def test_the_files_have_every_adapter_by_pefts_name(tmp_path):
    for name, decoder in (("llava", "model.language_model"), ("internvl_siglip", "language_model.model")):
        published.save_adapter(tmp_path / name, made(name), tiny_models.config(name, lora=LORA))
        found = load_file(tmp_path / name / "adapter_model.safetensors")
        assert len(found) == 2 * len(LAYERS) * 2
        assert f"base_model.model.{decoder}.layers.1.self_attn.o_proj.lora_A.weight" in found
        told = json.loads((tmp_path / name / "adapter_config.json").read_text())
        assert (told["r"], told["lora_alpha"], told["peft_type"]) == (4, 12, "LORA")


@pytest.mark.parametrize(
    ("name", "keys", "message"), [("jina", {"lora": LORA}, "adapts no"), ("llava", {}, "is not there")]
)
def test_where_there_is_nothing_that_peft_could_read_it_says_so(tmp_path: Path, name, keys, message):
    of = tiny_models.config(name, **keys)
    with pytest.raises(ModelError, match=message):
        published.save_adapter(tmp_path / "x", build.build(of, tiny_models.facts(name)), of)
