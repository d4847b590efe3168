"""Whether an export is what it was made of: plain transformers, in a process without this project, against ours.

A few fixed conversations, with made-up pictures and without, are asked of three: the model that is exported, the folder
as we read it again, and the folder as transformers reads it. Transformers must have the same token ids and pixels and
say what we say, in float32; of the exported model the answers may differ by what rounding to another dtype loses, which
is told.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from stages.chat import TemplateRefuses
from train.data.collate import placed
from train.export.failure import ExportError
from train.inference.conversation import Conversation
from train.inference.opened import Opened, opened
from train.inference.prompt import Prompts
from train.inference.slab import Slab
from train.models import tower

_NEAR = 1e-4  # of the largest logit: what the order of additions may change in float32
_NEAR_PIXELS = 1e-5
_SIZES = ((90, 60), (50, 130))

Messages = list[dict[str, Any]]


class Said(NamedTuple):
    """What a model is given for a conversation, and the logits of the token after it."""

    ids: Tensor
    pixels: Tensor | None
    logits: Tensor


def prove(folder: Path, of: Opened, rounds: bool) -> float:
    """The largest difference of a logit by rounding, as a share of the largest logit. Raises ExportError."""
    with tempfile.TemporaryDirectory() as place:
        questions = _questions(of, Path(place))
        theirs = alone(folder, questions, Path(place))
    again = opened(folder, "cpu", torch.float32)
    lost = 0.0
    for number, (messages, pictures) in enumerate(questions):
        ours, exported = ask(again, messages, pictures), ask(of, messages, pictures)
        _compare(number, ours, theirs)
        lost = max(lost, _apart(ours.logits, exported.logits))
    if lost > _NEAR and not rounds:
        raise ExportError(f"read again, the export says something else: logits differ by {lost:.1e} of the largest")
    return lost


def _compare(number: int, ours: Said, theirs: Mapping[str, Tensor]) -> None:
    ids = theirs[f"{number}.input_ids"][0]
    if ids.tolist() != ours.ids.tolist():
        raise ExportError(
            f"the exported processor makes other tokens of conversation {number}: {len(ids)}, wanted {len(ours.ids)}; "
            "its tokenizer can't be exported as it is"
        )
    pixels = theirs.get(f"{number}.pixel_values")
    if (pixels is None) != (ours.pixels is None):
        raise ExportError(f"the exported processor has other pictures in conversation {number}")
    if pixels is not None and ours.pixels is not None and not torch.allclose(pixels, ours.pixels, atol=_NEAR_PIXELS):
        raise ExportError(f"the exported processor cuts other pixels from the pictures of conversation {number}")
    if (apart := _apart(theirs[f"{number}.logits"][0, -1], ours.logits)) > _NEAR:
        raise ExportError(
            f"transformers says something else than we to conversation {number}: logits differ by {apart:.1e} of the "
            "largest"
        )


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-9))


def alone(folder: Path, questions: Sequence[tuple[Messages, Sequence[bytes]]], place: Path) -> dict[str, Tensor]:
    """What plain transformers makes of questions, in a process of its own. Raises ExportError."""
    asked = [
        _with_paths(messages, pictures, place / str(number)) for number, (messages, pictures) in enumerate(questions)
    ]
    (place / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    program = find_spec("train.export.remote.alone")
    assert program is not None and program.origin is not None
    given = [str(path) for path in (folder.resolve(), place / "asked.json", place / "said.safetensors")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    own = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(place / "modules"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-I", program.origin, *given], capture_output=True, text=True, cwd=place, env={**kept, **own}
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise ExportError(f"transformers can't load the export by itself: {said[-1][:300]}")
    return dict(load_file(place / "said.safetensors"))


def _with_paths(messages: Messages, pictures: Sequence[bytes], place: Path) -> Messages:
    """Messages whose images are files."""
    place.mkdir()
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(place / f"{number}.png")
        paths[-1].write_bytes(picture)
    left = iter(paths)
    found = []
    for message in messages:
        blocks = [{**b, "image": str(next(left))} if b["type"] == "image" else b for b in message["content"]]
        found.append({**message, "content": blocks})
    return found


def _questions(of: Opened, place: Path) -> list[tuple[Messages, list[bytes]]]:
    """Those of the fixed conversations that the chat template lays out."""
    pictures = [_picture(place / f"{number}.png", *size) for number, size in enumerate(_SIZES)]
    image = {"type": "image"}
    first = _turn("user", image, _words("この画像は何ですか? What is it?"))
    many = [
        ([_turn("user", _words("富士山について簡潔に説明してください。"))], []),
        ([first], pictures[:1]),
        ([_turn("user", image, image, _words("Which is larger?"))], pictures),
        ([first, _turn("assistant", _words("A picture.")), _turn("user", _words("誰が?"))], pictures[1:]),
    ]
    found = []
    for messages, some in many:
        try:
            prompt = of.chat.encode_prompt(messages, [1] * len(some)).input_ids
        except TemplateRefuses:
            continue
        if prompt:  # a layout that has no place for questions makes nothing of one
            found.append((messages, some))
    if not found:
        raise ExportError("the chat template lays out none of the conversations of the check; use --no-check")
    return found


def _turn(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


def _words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _picture(path: Path, width: int, height: int) -> bytes:
    """Noise, so that no two patches are alike."""
    random = np.random.default_rng(width)
    Image.fromarray(random.integers(0, 255, (height, width, 3), np.uint8)).save(path)
    return path.read_bytes()


@torch.no_grad()
def ask(of: Opened, messages: Messages, pictures: Sequence[bytes]) -> Said:
    """What our own code makes of a conversation, however long it is."""
    asked = Conversation(tuple(messages), tuple(pictures))
    prompt = Prompts(of.chat, of.facts, sys.maxsize).of(asked)
    length, weight = len(prompt.ids), next(of.model.language.parameters())
    slab = Slab(of.model.language.config, 1, weight.device, weight.dtype)
    slab.reserve(length)
    slab.prompts([0], [length])
    ids = torch.from_numpy(prompt.ids)
    row = of.model.embed(ids[None], placed(prompt.ids, prompt.grids, prompt.tiles, of.facts))
    logits = of.model.next_logits(row, torch.arange(length)[None], [0, length], slab)[0].float()
    normal = tower.clip_pixels if of.config.family == "llava" else tower.siglip_pixels
    return Said(ids, normal(torch.from_numpy(prompt.tiles), torch.float32) if pictures else None, logits)
