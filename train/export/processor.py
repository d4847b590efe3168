"""What makes text and pictures into a model's inputs, as files: the tokenizer, the template, the processor's settings.

A LLaVA is read by transformers' own LlavaProcessor. Both tile schemes that it learns from are image processors of
transformers: `llava15-square` is CLIP's, `llava15-pad` LLaVA's, which pads to a square of CLIP's mean colour. They cut
with Pillow as we do; where torchvision is installed transformers resizes with that, unless whoever loads it says
`backend="pil"`: no file can say so.

The settings of the image processor are in a file of their own, where older readers look for them and newer ones too.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.chat import ChatFormat
from stages.tiles.llava15 import Llava15Pad
from train.data.shards import Facts
from train.export import code
from train.export.failure import ExportError
from train.export.template import portable

_MEAN, _STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]  # OpenAI's CLIP


def save(folder: Path, chat: ChatFormat, facts: Facts, family: str, stops: list[int]) -> None:
    """Write all of them. Raises ExportError."""
    tokens = chat.image_tokens
    if family == "llava":
        _save_llava(folder, facts, tokens.image)
        image = f"{tokens.start or ''}{tokens.image}{tokens.end or ''}"
    else:
        _save_tiles(folder, facts)
        image = tokens.image
    if chat.shown_image and (tokens.start or tokens.end) and family == "llava":
        raise ExportError(
            "the chat template prints an image's token itself, and this system has images in a frame; train with a "
            "template that takes texts"
        )
    template = portable(str(chat.tokenizer.get_chat_template()), facts.chat, image, chat.shown_image)
    _save_tokenizer(folder, chat, template)
    _write(folder / "generation_config.json", _generation(chat, stops))


def _save_tokenizer(folder: Path, chat: ChatFormat, template: str) -> None:
    """As `stages.chat` reads it, and older readers of transformers too; it adds no tokens of itself."""
    chat.save(folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    told = json.loads((path := folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for name in ("chat_template", "is_local", "local_files_only", "backend"):
        told.pop(name, None)
    told["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(extra := told.pop("extra_special_tokens", None), list):
        told["additional_special_tokens"] = extra
    if _adds(chat.tokenizer):
        told |= {"add_bos_token": False, "add_eos_token": False}
        state = json.loads((words := folder / "tokenizer.json").read_text(encoding="utf-8"))
        words.write_text(json.dumps({**state, "post_processor": None}, ensure_ascii=False), encoding="utf-8")
    _write(path, told)


def _adds(tokenizer: Any) -> bool:
    """Whether a tokenizer puts tokens around every text; the template prints those that belong there."""
    alone = tokenizer("a", add_special_tokens=False)["input_ids"]
    return bool(tokenizer("a")["input_ids"] != alone)


def _generation(chat: ChatFormat, stops: list[int]) -> dict[str, Any]:
    """Greedy, until a turn ends."""
    pad = chat.tokenizer.pad_token_id
    told = {"do_sample": False, "eos_token_id": stops, "pad_token_id": stops[0] if pad is None and stops else pad}
    return {key: value for key, value in told.items() if value not in (None, [])}


def _save_llava(folder: Path, facts: Facts, image: str) -> None:
    scheme: Any = facts.scheme
    side = {"height": scheme.tile, "width": scheme.tile}
    pads = isinstance(scheme, Llava15Pad)
    pictures = {
        "processor_class": "LlavaProcessor",
        "image_processor_type": "LlavaImageProcessor" if pads else "CLIPImageProcessor",
        **({"do_pad": True} if pads else {}),
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": scheme.tile},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _MEAN,
        "image_std": _STD,
    }
    _write(folder / "preprocessor_config.json", pictures)
    told = {
        "processor_class": "LlavaProcessor",
        "image_token": image,
        "patch_size": scheme.patch,
        "vision_feature_select_strategy": "default",
        # The summary that "default" takes away again
        "num_additional_image_tokens": 1,
    }
    _write(folder / "processor_config.json", told)


def _save_tiles(folder: Path, facts: Facts) -> None:
    if facts.chat.image_first and facts.scheme.scheme == "llmjp4vl":
        raise ExportError(
            "tiles that depend on the text can't be counted where chat.image_first reorders it; train with a layout "
            "that takes images where they stand"
        )
    names = {"patch": facts.tokens.image, "start": facts.tokens.start, "end": facts.tokens.end}
    names["row"] = facts.tokens.row or facts.tokens.image
    told = {
        "processor_class": "TilesProcessor",
        "auto_map": {"AutoProcessor": "processing.TilesProcessor"},
        "tiles": asdict(facts.scheme),
        "tokens": {kind: text for kind, text in names.items() if text is not None},
    }
    _write(folder / "processor_config.json", told)
    ordered = facts.scheme.scheme == "jina"
    (folder / "processing.py").write_text(code.processing(facts.scheme, ordered), encoding="utf-8")


def _write(path: Path, told: dict[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
