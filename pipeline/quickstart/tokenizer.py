"""A byte-level BPE tokenizer with a ChatML template, trained on the corpus: the quickstart downloads nothing.

Reads the raw corpus' texts, writes a Hugging Face tokenizer folder (tokenizer.json, tokenizer_config.json,
chat_template.jinja). Deterministic: BPE training counts pairs, and the texts come in a fixed order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 768
END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
ROLES = ("user", "assistant")

# Qwen's ChatML without its default system message
TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train(raw: Path, folder: Path) -> None:
    """Train on the texts below `raw` and save to `folder`; the roles around each become tokens of their own."""
    learn((word for text in texts(raw) for word in (*ROLES, text)), folder)


def learn(some: Iterable[str], folder: Path) -> None:
    """Train on some texts and save to `folder`; of none it learns the bytes alone."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=[PAD, START, END], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(some, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=PAD)
    tokenizer.chat_template = TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)


def texts(raw: Path) -> Iterator[str]:
    """Every question and answer of the corpus, in the order of files and rows; missing ones left out."""
    for path in sorted((raw / "fine").rglob("*.parquet")):
        for row in pq.read_table(path, columns=["texts"]).to_pylist():
            yield from (text for pair in row["texts"] or [] for text in (pair["user"], pair["assistant"]) if text)
    for path in sorted((raw / "japanese").rglob("*.parquet")):
        for row in pq.read_table(path, columns=["質問", "回答"]).to_pylist():
            yield from (text for text in row.values() if text)
    for record in json.loads((raw / "llava" / "conversations.json").read_text(encoding="utf-8")):
        yield from (turn["value"] for turn in record.get("conversations") or [])
