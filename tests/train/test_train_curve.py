"""The losses of a run beside a plain loop of transformers, which has no line of the trainer in it.

The loop has transformers' own model, image processor, attention and head over every position, one sample at a time, its
own loss, schedule, clipping and torch's AdamW. Both begin with the same weights and read the same samples in the same
steps; pictures are noise, of several sizes.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import tiny_shards
import torch
from PIL import Image
from tiny_shards import CONFIG, Talk, merged, talks, write_shards
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen3Config
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from schemas import strict
from stages.tiles.llava15 import Llava15Square
from train import trainer
from train.config import Config
from train.data.folders import open_shards
from train.data.shards import Sample, Shards
from train.models import build

SCHEME = Llava15Square(tile=16, patch=4)
STEPS, RATE, WARMUP, DECAY, CLIP, BATCH = 50, 3e-3, 5, 0.1, 1.0, 8
VISION = {"hidden_size": 24, "num_layers": 3, "num_heads": 2, "intermediate_size": 48}
LANGUAGE = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "intermediate_size": 64}


def noise(colour: str, size: tuple[int, int]) -> bytes:
    random = np.random.default_rng([*size, *colour.encode()])
    buffer = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """One of a run on such shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_shards, "SCHEME", SCHEME)
        patch.setattr(tiny_shards, "png", noise)
        shards = write_shards(tmp_path_factory.mktemp("llava"), [*talks(50), *(wide(n) for n in range(10))])
    section = {
        **{"matrices": "adamw", "learning_rate": RATE, "warmup_steps": WARMUP, "weight_decay": DECAY, "clip": CLIP},
        **{"schedule": "cosine", "betas": [0.9, 0.999]},
    }
    model = {"family": "llava", "vision": VISION, "language": LANGUAGE, "init_seed": 3}
    data = {"shards": str(shards), "seed": 1, "steps": STEPS, "batch_size": BATCH, "max_tokens_per_pack": 250}
    run = {**CONFIG["run"], "out": str(tmp_path_factory.mktemp("run")), "checkpoint_every": 1000}
    return strict.build(Config, merged({"data": data, "model": model, "optimiser": section, "run": run}))


def wide(number: int) -> Talk:
    """A picture that is larger than a tile and no square."""
    return Talk((("red", (70 + number, 31)),), (("Which colour?", "red"),))


@pytest.fixture
def opened(config) -> Shards:
    found = open_shards(config.data.shards)
    assert isinstance(found, Shards)
    return found


def plain(config: Config, shards: Shards) -> LlavaForConditionalGeneration:
    """Transformers' own model with the weights that a run begins with."""
    names = ("hidden_size", "intermediate_size")
    vision = CLIPVisionConfig(
        **{name: VISION[name] for name in names},
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
    )
    text = Qwen3Config(
        **{name: LANGUAGE[name] for name in names},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
        **{"vocab_size": shards.facts.vocab_size, "tie_word_embeddings": True},
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    told: dict[str, Any] = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
    told["tie_word_embeddings"] = True
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=shards.facts.image_token_id, **told)
    )
    ours = build.build(config.model, shards.facts).state_dict()
    given = {theirs(name): tensor.clone() for name, tensor in ours.items()}
    lacking, unknown = model.load_state_dict(given, strict=False)
    assert not unknown and all("layers.2." in name or "post_layernorm" in name for name in lacking)
    return model.train()


def theirs(name: str) -> str:
    """The name of a weight in transformers."""
    begins = {
        "vision.": "model.vision_tower.",
        "projector.0.": "model.multi_modal_projector.linear_1.",
        "projector.2.": "model.multi_modal_projector.linear_2.",
        "language.model.": "model.language_model.",
        "language.lm_head.": "lm_head.",
    }
    own, other = next(pair for pair in begins.items() if name.startswith(pair[0]))
    return other + name.removeprefix(own)


def loss_of(model: LlavaForConditionalGeneration, sample: Sample) -> Tensor:
    """The sum over the targets of one sample."""
    ids = torch.from_numpy(sample.input_ids)[None]
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    pictures = [Image.open(io.BytesIO(bytes(data))).convert("RGB") for data in sample.images]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"] if pictures else None
    logits = model(input_ids=ids, pixel_values=pixels, use_cache=False).logits[0]
    labels = torch.full_like(ids[0], -100)
    for start, end in sample.target_spans.tolist():
        labels[start:end] = ids[0, start:end]
    for place, label in sample.label_changes.tolist():
        labels[place] = label
    return cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")


def rate(step: int) -> float:
    if step < WARMUP:
        return RATE * (step + 1) / WARMUP
    return RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def step_of(model: LlavaForConditionalGeneration, samples: list[Sample]) -> float:
    """The mean loss over the targets of a step, its gradient in the model."""
    model.zero_grad()
    spans = np.concatenate([sample.target_spans for sample in samples])
    count, total = int((spans[:, 1] - spans[:, 0]).sum()), 0.0
    for sample in samples:
        loss = loss_of(model, sample) / count
        loss.backward()
        total += float(loss.detach())
    return total


def batches(config: Config, shards: Shards) -> list[list[Sample]]:
    """The samples of every step, out of their packs."""
    plan = trainer.make_plan(config, shards)
    return [[shards.sample(number) for pack in step for number in pack] for step in plan.steps()]


def curve(config: Config, shards: Shards) -> list[float]:
    model = plain(config, shards)
    linear = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)} - {id(model.lm_head.weight)}
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if id(p) in linear], "weight_decay": DECAY},
        {"params": [p for p in learning if id(p) not in linear], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-8)
    losses = []
    for number, samples in enumerate(batches(config, shards)):
        losses.append(step_of(model, samples))
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for group in optimiser.param_groups:
            group["lr"] = rate(number)
        optimiser.step()
    return losses


def test_the_first_gradient_is_that_of_transformers(config, opened):
    """Each parameter's, to a hundred thousandth of its largest entry."""
    wanted, samples = plain(config, opened), batches(config, opened)[0]
    step_of(wanted, samples)
    expected = {name: p.grad for name, p in wanted.named_parameters()}
    run = trainer.Run(config, opened, trainer.make_plan(config, opened), trainer.processes.ALONE)
    with run.pool:
        step = next(run.steps())
        assert len(step.packs) > 1 and max(len(pack.samples) for pack in step.packs) > 2
        trainer.gradient.accumulate(run.model, step.packs, run.pool)
    for name, parameter in run.model.named_parameters():
        other = expected[theirs(name)]
        assert (parameter.grad - other).abs().max() <= 1e-5 * other.abs().max() + 1e-7, name


@pytest.mark.slow
def test_fifty_steps_have_the_losses_of_a_plain_loop(config, opened):
    ours: list[float] = []
    trainer.fit(config, lambda line: ours.append(line.loss))
    wanted = curve(config, opened)
    assert len(ours) == len(wanted) == STEPS and wanted[-1] < 0.5 * wanted[0]
    difference = max(abs(a - b) for a, b in zip(ours, wanted, strict=True))
    assert difference <= 1e-4
