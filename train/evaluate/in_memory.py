"""Whoever answers with a model that is being trained: a copy of it, so that nothing of the run is touched.

The copy is made anew for each evaluation and let go after it. It has the weights as they are, gathered where they are
split, in float32 and on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from stages.chat import ChatFormat
from train.config import Config
from train.data.shards import Facts
from train.inference.answerer import Answerer
from train.inference.conversation import Answers
from train.inference.opened import Opened
from train.models import build, lora
from train.models.vision_language import VisionLanguage


def answering(model: VisionLanguage, config: Config, facts: Facts, tokenizer: Mapping[str, Path]) -> Answers:
    """`tokenizer`: the files of it, by name, which lie in one folder."""
    made, folder = copied(model, config, facts), next(iter(tokenizer.values())).parent
    lora.merge(made)
    chat = ChatFormat.load(folder, facts.tokens, facts.chat)
    stops, context = frozenset(chat.stop_ids), config.data.max_tokens_per_pack
    return Answerer(Opened(made, facts, chat, config.model, Path(config.run.out), folder, context, stops))


@torch.no_grad()
def copied(model: VisionLanguage, config: Config, facts: Facts) -> VisionLanguage:
    """The same model once more, in evaluation mode."""
    made = build.build(config.model, facts)
    new = dict(made.named_parameters(remove_duplicate=False))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        new[name].copy_(parameter.full_tensor() if isinstance(parameter, DTensor) else parameter)
    return made.eval()
