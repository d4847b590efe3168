"""Made-up conversations in English and Japanese, tokenizers that are trained on them, and JPEGs, for the benchmarks.

Words are drawn by Zipf's law from a made-up vocabulary, so that a tokenizer meets frequent and rare words as in real
text. The byte-level BPE splits and normalises as Qwen's does; the unigram is one stretch as LLM-jp's, with control
tokens and bytes in its vocabulary. Both lay out ChatML.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONSONANTS = [*"bcdfghlmnprstvw", "st", "tr", "ch", "sh"]
_SYLLABLES = [first + vowel for first in _CONSONANTS for vowel in "aeiou"]
_KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはまみめもやゆよらりるれろわをんがぎぐげござじずだでどば"
_KANJI = [chr(0x4E00 + number) for number in range(0, 3000, 2)]


class Words:
    """Text of any length, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._rng = rng = random.Random(seed)
        english = ["".join(rng.choices(_SYLLABLES, k=rng.choice((1, 2, 2, 3, 4)))) for _ in range(20_000)]
        japanese = ["".join(rng.choices([*_KANA, *_KANJI], k=rng.choice((1, 1, 2, 3)))) for _ in range(10_000)]
        kinds = ((list(dict.fromkeys(words)), joint) for words, joint in ((english, " "), (japanese, "")))
        self._kinds = [(words, [*accumulate(1 / (n + 3) for n in range(len(words)))], joint) for words, joint in kinds]

    def text(self, count: int) -> str:
        """So many words, two texts in three English."""
        words, weights, joint = self._kinds[self._rng.random() > 0.67]
        drawn = self._rng.choices(words, cum_weights=weights, k=count)
        said = joint.join(word + (("、", ", ")[joint == " "] if n % 9 == 5 else "") for n, word in enumerate(drawn))
        return said + ("。" if not joint else f", {self._rng.randrange(1000)}.")

    def talk(self, turns: int, words: int, images: int = 1) -> list[dict[str, Any]]:
        """Questions and answers of about so many words in all, an answer thrice as long as its question."""
        each = max(4, words // turns)
        messages = []
        for turn in range(turns):
            shown = [{"type": "image", "text": None}] * (images if turn == 0 else 0)
            for role, count, blocks in (("user", each // 4 + 1, shown), ("assistant", each * 3 // 4, [])):
                text = {"type": "text", "text": ("\n" if blocks else "") + self.text(count)}
                messages.append({"role": role, "content": [*blocks, text]})
        return messages


def rendered(messages: Sequence[dict[str, Any]]) -> str:
    """What the template prints of a conversation, its images left out."""
    turns = ((m["role"], "".join(block["text"] or "" for block in m["content"])) for m in messages)
    return "".join(f"{START}{role}\n{said}{END}\n" for role, said in turns)


def byte_level(texts: Sequence[str]) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_QWEN), "isolated")
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, in_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=16_000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _chatml(tokenizer)


def unigram(texts: Sequence[str]) -> Any:
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.UnigramTrainer(
        vocab_size=8_000, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    own = [(word, score) for word, score in json.loads(trained.to_str())["model"]["vocab"] if word != "<unk>"]
    given = ["<unk>", PAD, START, END]
    words = [(word, -3.0) for word in given] + [(f"<0x{byte:02X}>", -80.0) for byte in range(256)]
    single = [(letter, -9.0) for letter in "▁<|>_\n" if letter not in dict(own)]
    tokenizer = Tokenizer(models.Unigram(words + own + single, 0, byte_fallback=True))
    marks = [normalizers.Replace(Regex("(?<!\\n)^"), "▁"), normalizers.Replace(Regex(" "), "▁")]
    tokenizer.normalizer = normalizers.Sequence(marks)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    return _chatml(tokenizer, "<unk>")


def _chatml(tokenizer: Any, unknown: str | None = None) -> Any:
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, unk_token=unknown)
    made.add_special_tokens({"additional_special_tokens": [START]})
    made.chat_template = CHATML
    return made


def jpeg(seed: int, width: int, height: int, quality: int = 90) -> bytes:
    """A picture of soft and finer noise: about 100 kB at 1024 x 768."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), "gray")
    for step, weight in ((64, 0.8), (12, 0.3)):
        noise = rng.integers(0, 256, (height // step + 2, width // step + 2, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize(image.size, Image.Resampling.BICUBIC)
        image = Image.blend(image, layer, weight)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
