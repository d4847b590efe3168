"""Whoever answers with a model that is being trained: a copy of it, so that nothing of the run is touched.

The copy is made anew for each evaluation and let go after it. It has the weights as they are, gathered where they are
split, in float32 and on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from stages.chat import ChatFormat
from train.config import Config
from train.data.shards import Facts
from train.generate import Answerer, Prompt, PromptError
from train.inference.conversation import Answer, Answers, Conversation, Sampling
from train.models import build
from train.models.vision_language import VisionLanguage


def answering(model: VisionLanguage, config: Config, facts: Facts, tokenizer: Mapping[str, Path]) -> Answers:
    """`tokenizer`: the files of it, by name, which lie in one folder."""
    folder = next(iter(tokenizer.values())).parent
    return _Greedy(copied(model, config, facts), facts, ChatFormat.load(folder, facts.tokens, facts.chat))


@torch.no_grad()
def copied(model: VisionLanguage, config: Config, facts: Facts) -> VisionLanguage:
    """The same model once more, in evaluation mode."""
    made = build.build(config.model, facts)
    new = dict(made.named_parameters(remove_duplicate=False))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        new[name].copy_(parameter.full_tensor() if isinstance(parameter, DTensor) else parameter)
    return made.eval()


class _Greedy(Answerer):
    """One conversation after the other."""

    def __init__(self, model: VisionLanguage, facts: Facts, chat: ChatFormat) -> None:
        self.model, self.facts, self.chat = model, facts, chat
        self._stops = torch.tensor(chat.stop_ids)

    def answers(
        self, conversations: Iterable[Conversation], sampling: Sampling | None = None
    ) -> Iterator[tuple[int, Answer]]:
        del sampling
        for number, said in enumerate(conversations):
            texts = [block["text"] for one in said.messages for block in one["content"] if block["type"] == "text"]
            try:
                yield number, Answer(self.answer([Prompt("\n".join(texts), said.images)])[0])
            except PromptError as error:
                yield number, Answer("", "error", str(error))
