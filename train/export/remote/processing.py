"""Conversations and pictures to what the model beside this file takes, for `trust_remote_code`.

It needs Pillow, numpy, torch and transformers (5.17 or later) alone. Pictures are turned upright, become RGB with white
behind what is transparent, and are cut into the very tiles that the model learnt from; the image token of a prompt
becomes the tokens of its picture.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import BatchFeature
from transformers.image_utils import load_image
from transformers.processing_utils import ProcessorMixin

from stages.tiles.scheme import Grid, Scheme

TILES: Any = Scheme  # the exporter names the scheme here


_NOT_MARKED = "(?<!\U000f0000)"  # with which transformers marks the control tokens of texts


class TilesProcessor(ProcessorMixin):
    """`tiles`: the numbers of the scheme; `tokens`: kind of token -> its text."""

    def __init__(
        self, tokenizer: Any = None, chat_template: Any = None, tiles: Any = None, tokens: Any = None, **others: Any
    ) -> None:
        self.tiles, self.tokens = dict(tiles or {}), dict(tokens or {})
        self.image_token = self.tokens.get("patch", "<image>")
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(tokenizer, chat_template=chat_template)

    @property
    def model_input_names(self) -> list[str]:
        return [*self.tokenizer.model_input_names, "pixel_values"]

    def __call__(self, images: Any = None, text: Any = None, return_tensors: Any = "pt", **others: Any) -> Any:
        """`images`: those of one prompt, or a list of them for each prompt of a list."""
        texts = [text] if isinstance(text, str) else list(text)
        how = {"add_special_tokens": False}
        if others.get("sanitize_control_tokens"):
            how["sanitize_control_tokens"] = True
        pictures = [[_upright(each) for each in some] for some in _by_prompt(images, len(texts))]
        scheme = TILES(**{key: tuple(v) if isinstance(v, list) else v for key, v in self.tiles.items()})
        written, cut = [], []
        for prompt, some in zip(texts, pictures, strict=True):
            grids = self._grids(scheme, prompt, some, how)
            written.append(self._expanded(scheme, prompt, some, grids))
            cut += [(scheme, picture, grid) for picture, grid in zip(some, grids, strict=True)]
        asked = {k: v for k, v in others.items() if k in ("padding", "truncation", "max_length", "padding_side")}
        if len(texts) > 1:
            asked = {"padding": True, "padding_side": "left", **asked}
        ids = self.tokenizer(written, **how, **asked)
        found = {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}
        return BatchFeature({**found, **(_pixels(cut) if cut else {})}, tensor_type=return_tensors)

    def apply_chat_template(self, conversation: Any, **asked: Any) -> Any:
        """As others have it. What is tokenised comes as tensors, and a control token in a text is only text."""
        if asked.get("tokenize"):
            asked = {"return_dict": True, "return_tensors": "pt", **asked}
            if "sanitize_control_tokens" in inspect.signature(ProcessorMixin.apply_chat_template).parameters:
                asked = {"sanitize_control_tokens": not asked.get("return_assistant_tokens_mask"), **asked}
        return super().apply_chat_template(conversation, **asked)

    def _grids(self, scheme: Any, prompt: str, pictures: list[Image.Image], how: Any) -> list[Grid]:
        def count() -> int:
            return len(self.tokenizer("".join(self._around(prompt)), **how)["input_ids"])

        grids: list[Grid] = scheme.grids_of([picture.size for picture in pictures], count)
        return grids

    def _expanded(self, scheme: Any, prompt: str, pictures: list[Image.Image], grids: list[Grid]) -> str:
        """The prompt with the tokens of each picture in its place."""
        parts = self._around(prompt)
        if len(parts) - 1 != len(pictures):
            raise ValueError(f"{len(parts) - 1} times {self.image_token} in the prompt, and {len(pictures)} images")
        whole = [parts[0]]
        for part, picture, grid in zip(parts[1:], pictures, grids, strict=True):
            runs = scheme.runs(grid, *picture.size)
            whole += ["".join(self.tokens.get(kind, "") * number for kind, number in runs), part]
        return "".join(whole)

    def _around(self, prompt: str) -> list[str]:
        """What stands before, between and after the images; image tokens that are marked as text are no images."""
        return re.split(_NOT_MARKED + re.escape(self.image_token), prompt)


def _pixels(cut: list[tuple[Any, Image.Image, Grid]]) -> dict[str, Any]:
    """Tiles in [-1, 1], [N, 3, S, S]; and which feature each image token takes, and the last tile of each picture."""
    tiles: list[np.ndarray] = []
    order, last, before = [], [], 0
    for scheme, picture, grid in cut:
        order.append(scheme.feature_order(grid, before))
        tiles.append(scheme.cut(picture, grid))
        before += grid.num_tiles
        last.append(before - 1)
    pixels = torch.from_numpy(np.concatenate(tiles)).permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
    ordered = {"feature_order": np.concatenate(order), "last_tiles": np.array(last, np.int64)} if ORDERED else {}
    return {"pixel_values": pixels, **ordered}


ORDERED: bool = False  # whether the model wants them


def _upright(image: Any) -> Image.Image:
    """Upright, RGB, white behind what is transparent; 16 bits and more are scaled."""
    found: Any = image if isinstance(image, Image.Image) else load_image_as_it_is(image)
    found = ImageOps.exif_transpose(found)
    if found.mode.startswith("I;16") or found.mode in ("I", "F"):
        found = _eight_bits(found)
    if found.mode == "RGB" and not found.has_transparency_data:
        return found  # type: ignore[no-any-return]
    if found.has_transparency_data:
        rgba = found.convert("RGBA")
        found = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return found.convert("RGB")  # type: ignore[no-any-return]


def _eight_bits(image: Any) -> Image.Image:
    """Deep greys, which Pillow clips; white is 65535, of others 1 for floats up to 1, else the largest value."""
    values = np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    largest = float(values.max(initial=0))
    white = 1.0 if image.mode == "F" and largest <= 1 else max(largest, 255.0)
    white = 65535.0 if image.mode.startswith("I;16") else white
    return Image.fromarray(np.clip(values * (255.0 / white), 0, 255).round().astype(np.uint8))


def load_image_as_it_is(image: Any) -> Any:
    """A picture from a path; from an address, or encoded as text, as transformers reads it."""
    try:
        return Image.open(image)
    except (OSError, ValueError, AttributeError, TypeError):
        return load_image(image)


def _by_prompt(images: Any, prompts: int) -> Iterator[list[Any]]:
    """The images of each prompt."""
    if images is None:
        yield from ([] for _ in range(prompts))
    elif not isinstance(images, list | tuple):
        yield [images]
    elif any(isinstance(each, list | tuple) for each in images) or (prompts > 1 and len(images) == prompts):
        yield from (list(each) if isinstance(each, list | tuple) else [each] for each in images)
    else:
        yield list(images)


TilesProcessor.register_for_auto_class()
