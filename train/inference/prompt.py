"""A conversation -> what the model is given: ids and tiles, by the path that the shards were made by.

Grids and ids come from `stages.chat` and `stages.tiles` as in pretokenise; tiles are cut as for training. An image is
decoded once: its size and its pixels are of the same picture. Whatever keeps a conversation from being answered is one
line.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stages.chat import ChatFormat, ControlText, TemplateRefuses
from stages.images.rules import BadImage, measure, open_rgb
from stages.tiles.scheme import Grid, NoGrid
from train.data.shards import Facts
from train.inference.conversation import Conversation
from train.inference.errors import PromptError

MAX_PIXELS = 100_000_000  # of one image, as at ingest
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """`tiles`: uint8 [N, S, S, 3], image by image, on these grids."""

    ids: np.ndarray
    tiles: np.ndarray
    grids: tuple[Grid, ...]


class Prompts:
    """What prompts of one model are made with; any number of threads may ask."""

    def __init__(self, chat: ChatFormat, facts: Facts, context: int) -> None:
        self.chat, self.facts, self.context = chat, facts, context
        self._one_at_a_time = threading.Lock()  # what a chat format remembers is no matter of several threads

    def of(self, conversation: Conversation) -> Prompt:
        """Raises PromptError."""
        check(conversation)
        opened = pictures(conversation.images)
        with self._one_at_a_time:
            ids, grids = self._encoded(conversation.messages, [picture.size for picture in opened])
        if len(ids) >= self.context:
            raise PromptError(
                f"the prompt has {len(ids):,} tokens, and prompt and answer may have {self.context:,}; shorten it or "
                "give fewer or smaller images"
            )
        return Prompt(ids, self._tiles(opened, grids), tuple(grids))

    def _encoded(
        self, messages: Sequence[dict[str, Any]], sizes: Sequence[tuple[int, int]]
    ) -> tuple[np.ndarray, list[Grid]]:
        scheme = self.facts.scheme
        try:
            talk = self.chat.conversation(messages)
            grids = scheme.grids_of(sizes, lambda: talk.count_text(prompt=True))
            runs = [scheme.runs(grid, *size) for grid, size in zip(grids, sizes, strict=True)]
            encoded = talk.encode([*map(self.chat.image_ids, runs)], prompt=True)
        except (TemplateRefuses, ControlText, NoGrid) as error:
            raise PromptError(str(error)) from None
        return encoded.array().astype(np.int64), grids

    def _tiles(self, opened: Sequence[Image.Image], grids: Sequence[Grid]) -> np.ndarray:
        tiles, start = self.facts.scheme.room(sum(grid.num_tiles for grid in grids)), 0
        for picture, grid in zip(opened, grids, strict=True):
            self.facts.scheme.cut_into(tiles[start : start + grid.num_tiles], picture, grid)
            start += grid.num_tiles
        return tiles


def pictures(images: Sequence[bytes]) -> list[Image.Image]:
    """Upright RGB pictures of encoded ones. Raises PromptError."""
    return [_opened(data, number) for number, data in enumerate(images, start=1)]


def _opened(data: bytes, number: int) -> Image.Image:
    """The upright RGB picture, after its header was asked whether it is too large to be decoded."""
    try:
        measure(data, MAX_PIXELS)
        return open_rgb(data)
    except BadImage as error:
        raise PromptError(f"image {number}: {error}") from None


def check(conversation: Conversation) -> None:
    """Raise PromptError unless it is a conversation: messages of blocks, images for all that show one, a question."""
    messages, places = conversation.messages, 0
    if not messages:
        raise PromptError("the conversation has no messages; nothing is asked")
    for number, message in enumerate(messages, start=1):
        places += _images_in(message, number)
    if (there := len(conversation.images)) != places:
        raise PromptError(f"{there} images, and the messages have places for {places}; give one for each place")
    if messages[-1]["role"] == "assistant":
        raise PromptError("the last message is the assistant's, so nothing is asked; end with the user's")
    if not any(block["type"] == "image" or block["text"].strip() for block in messages[-1]["content"]):
        raise PromptError("the last message is empty, so nothing is asked; give it a text or an image")


def _images_in(message: Any, number: int) -> int:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        role = message.get("role") if isinstance(message, dict) else message
        raise PromptError(f"message {number}: its role is {str(role)[:40]!r}, wanted one of {', '.join(_ROLES)}")
    blocks = message.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise PromptError(f"message {number}: its content is {str(blocks)[:40]!r}, wanted a list of blocks")
    for block in blocks:
        if block.get("type") != "image" and not (block.get("type") == "text" and isinstance(block.get("text"), str)):
            raise PromptError(f"message {number}: a block is {str(block)[:60]}, wanted a text or an image")
        if block["type"] == "text" and not is_text(block["text"]):
            raise PromptError(f"message {number}: its text has half a character (a surrogate alone); write it anew")
    return sum(block["type"] == "image" for block in blocks)


def is_text(words: str) -> bool:
    """Whether it can be written: JSON may hold half of a pair of surrogates, and so may a command line."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True
