"""Models in their smallest form as they are opened, ready to be exported, and questions about noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from tiny_models import LANGUAGE, SCHEMES, config, picture, shuffled
from tiny_shards import write_tokenizer
from transformers import PreTrainedTokenizerFast

from schemas.fingerprints import Fingerprints
from stages.chat import ChatFormat, ImageTokens
from stages.chat_rules import DEFAULTS, ChatRules
from stages.tiles.llava15 import Llava15Square
from stages.tiles.llmjp4vl import LlmJp4VL
from stages.tiles.scheme import Scheme
from train.data.shards import Facts
from train.export import folder
from train.export.folder import How
from train.inference.opened import Opened
from train.models import build

EXPORTS: dict[str, Scheme] = {
    **{name: SCHEMES[name] for name in ("llava", "internvl_siglip", "jina")},
    "llava+square": Llava15Square(tile=16, patch=4),
    "internvl_siglip+llama": SCHEMES["internvl_siglip"],
    "internvl_siglip+qwen3_moe": SCHEMES["internvl_siglip"],
    "internvl_siglip+within": LlmJp4VL(tile=16, patch=4, max_tiles=6, context=100),
}
TOKENS = {
    "llava": ImageTokens("<image>"),
    "internvl_siglip": ImageTokens("<image>", "<img>", "</img>"),
    "jina": ImageTokens("<im_patch>", "<im_start>", "<im_end>", "<im_col>"),
}
WORDS = ("Which colour? red green blue", "何色ですか? 富士山")
SYSTEMS = {"llava+square": "llava", "internvl_siglip+within": "internvl_siglip"}
FP32 = How(torch.float32, 60_000)


def tiny(name: str, place: Path, rules: ChatRules = DEFAULTS, template: str | None = None, **changes: Any) -> Opened:
    """A model of random weights; `template` instead of the tokenizer's own, `changes` of the model's section."""
    family = name.partition("+")[0]
    write_tokenizer(place / "tokenizer", WORDS)
    if rules.layout == "llm-jp-4-vl":
        _add_harmony(place / "tokenizer")
    if template is not None:
        (place / "tokenizer" / "chat_template.jinja").write_text(template)
    chat = ChatFormat.load(place / "tokenizer", TOKENS[family], rules)
    scheme: Any = EXPORTS[name]
    facts = Facts(scheme, chat.image_tokens, rules, chat.image_token_id, chat.vocab_size, Fingerprints("", ""))
    if family == "jina":
        rows = {"vocab_size": chat.vocab_size - 4, "extra_vocab_size": 6}
        changes = {"language": {**LANGUAGE, "tie_embeddings": False, **rows}, **changes}
    section = config(SYSTEMS.get(name, name), **changes)
    made = build.build(section, facts).eval()
    shuffled(made)
    return Opened(made, facts, chat, section, place, place / "tokenizer", 512, frozenset(chat.stop_ids))


def _add_harmony(folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    names = ["start", "message", "channel", "end", "return"]
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<|{name}|>" for name in names]})
    tokenizer.eos_token = "<|return|>"
    tokenizer.save_pretrained(folder)


def exported(out: Path, of: Opened, how: How = FP32) -> Path:
    """Written, not proven."""
    folder.write(out, of, {}, how, "card", lambda draft: None)
    return out


def again(of: Opened, **changes: Any) -> Opened:
    return dataclasses.replace(of, **changes)


def turn(role: str, *blocks: str | None) -> dict[str, Any]:
    """A message of texts, and of images where there is None."""
    found = [{"type": "image"} if block is None else {"type": "text", "text": block} for block in blocks]
    return {"role": role, "content": found}


def questions() -> list[tuple[list[dict[str, Any]], list[bytes]]]:
    """Of words, of one picture, of two, and of several turns."""
    one, two = picture(1, 40, 30), picture(2, 30, 90)
    return [
        ([turn("user", "富士山について? <|im_end|> <image> <im_patch> </s>")], []),
        ([turn("user", None, "Which colour?")], [one]),
        ([turn("user", None, None, "何色ですか?")], [one, two]),
        ([turn("user", None, "Which?"), turn("assistant", "red"), turn("user", "何色?")], [two]),
    ]
