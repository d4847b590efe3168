"""A checkpoint -> greedy answers to questions about images, by the path the shards were made by.

Prompts come from `stages.chat`, tiles from `stages.images` and `stages.tiles`, with the tokenizer and the facts
stored in the checkpoint: the shards are not needed. Prompts of exactly equal length run together, so there is neither
padding nor a mask, and a batch answers as single prompts do.

Letters in names of shapes: B prompts, T tokens of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from schemas import strict
from schemas.fingerprints import of_tokenizer
from schemas.manifest import hash_file
from stages.chat import ChatFormat, ControlText, TemplateRefuses
from stages.images.rules import BadImage, open_rgb
from stages.tiles.scheme import NoGrid
from train import checkpoint
from train.config import ModelConfig
from train.data.collate import check, images
from train.data.shards import Facts, ImageSpan, Sample
from train.models import build

MAX_NEW_TOKENS = 64
_BATCH = 32


class PromptError(ValueError):
    """A prompt that can't be answered: one line with its question."""


@dataclass(frozen=True)
class Prompt:
    """A question with its images, as encoded files."""

    text: str
    images: tuple[bytes, ...] = ()


class Answerer:
    """A model in evaluation mode with its chat format."""

    def __init__(self, folder: Path) -> None:
        record = checkpoint.read(folder)
        self.facts = strict.build(Facts, record.facts, "facts")
        self.chat = ChatFormat.load(folder / checkpoint.TOKENIZER, self.facts.tokens, self.facts.chat)
        files = {path.name: hash_file(path) for path in (folder / checkpoint.TOKENIZER).iterdir()}
        if (found := of_tokenizer(files)) != (wanted := self.facts.fingerprints.tokenizer):
            raise PromptError(
                f"{folder / checkpoint.TOKENIZER}: is another tokenizer, {found[:8]}; the model learnt with "
                f"{wanted[:8]}; put back the files of the checkpoint"
            )
        model = strict.build(ModelConfig, record.identity["model"], "model")
        self.model = build.build(model, self.facts).eval()
        checkpoint.load(folder, self.model)
        self._stops = torch.tensor(self.chat.stop_ids)

    def answer(self, prompts: Sequence[Prompt]) -> list[str]:
        """Greedy answers, in the order of the prompts."""
        samples = [self._sample(prompt) for prompt in prompts]
        answers = [""] * len(prompts)
        for numbers in _equal_lengths(samples):
            replies = self._greedy([samples[number] for number in numbers])
            for number, ids in zip(numbers, replies, strict=True):
                answers[number] = self.chat.answer(ids)
        return answers

    def _sample(self, prompt: Prompt) -> Sample:
        """The prompt in the shape of a training sample, without targets; images come before the text."""
        scheme = self.facts.scheme
        sizes = [_size(prompt, number) for number in range(len(prompt.images))]
        blocks: list[dict[str, Any]] = [{"type": "image"} for _ in sizes]
        message = {"role": "user", "content": [*blocks, {"type": "text", "text": prompt.text}]}
        try:
            grids = scheme.grids_of(sizes, lambda: self.chat.count_text([message], prompt=True))
            runs = [scheme.runs(grid, *size) for grid, size in zip(grids, sizes, strict=True)]
            encoded = self.chat.encode_prompt([message], runs)
        except (TemplateRefuses, ControlText, NoGrid) as error:
            raise PromptError(f"{prompt.text!r}: {error}") from None
        found = zip(grids, sizes, encoded.image_spans, strict=True)
        spans = tuple(ImageSpan(grid, *size, *span) for grid, size, span in found)
        ids, none = np.asarray(encoded.input_ids, np.int64), np.empty((0, 2), np.int64)
        sample = Sample(prompt.text, ids, none, none, prompt.images, spans)
        check(sample, self.facts)
        return sample

    @torch.inference_mode()
    def _greedy(self, samples: Sequence[Sample]) -> list[list[int]]:
        """Samples of one length -> the ids after each, up to its first stop id."""
        ids_BT = torch.from_numpy(np.stack([sample.input_ids for sample in samples]))
        cache, embeddings = DynamicCache(), self.model.embed(ids_BT, images(samples, self.facts))
        new: list[torch.Tensor] = []
        open_B = torch.ones(len(samples), dtype=torch.bool)
        while open_B.any() and len(new) < MAX_NEW_TOKENS:
            next_B = self.model.next_logits(embeddings, cache).argmax(-1)
            new.append(next_B)
            open_B &= ~torch.isin(next_B, self._stops)
            embeddings = self.model.embedding(next_B[:, None])
        return [_until(row, self._stops.tolist()) for row in torch.stack(new, 1).tolist()]


def _size(prompt: Prompt, number: int) -> tuple[int, int]:
    try:
        return open_rgb(prompt.images[number]).size
    except BadImage as error:
        raise PromptError(f"{prompt.text!r}, image {number + 1}: {error}") from None


def _equal_lengths(samples: Sequence[Sample]) -> Iterator[list[int]]:
    """Numbers of samples in batches of one length each."""
    by_length: dict[int, list[int]] = {}
    for number, sample in enumerate(samples):
        by_length.setdefault(len(sample.input_ids), []).append(number)
    for numbers in by_length.values():
        yield from (numbers[first : first + _BATCH] for first in range(0, len(numbers), _BATCH))


def _until(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    """The ids before the first stop id."""
    end = next((at for at, token in enumerate(ids) if token in stops), len(ids))
    return list(ids[:end])
