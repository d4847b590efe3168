"""A corpus of forty rows with every kind of loss in it, for tests that run the whole pipeline many times.

`talks` is text in two files; `signs` is text about pictures, one of which is missing. Among the rows: a broken one, an
empty answer, a conversation twice, two in French, one that is too long, one that shows the picture of the benchmark
`exam`. The tokenizer has a token for every byte.
"""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pipeline.quickstart.tokenizer import END, PAD, START, TEMPLATE

TALKS = {
    "talks/a.jsonl": [(f"Which number comes after {n}?", f"The number after {n} is {n + 1}.") for n in range(12)],
    "talks/b.jsonl": [
        *[(f"Can you name a town with {n} bridges?", f"There are {n} bridges in our town.") for n in range(5)],
        ("Which number comes after 3?", "The number after 3 is 4."),
        ("Who can say nothing at all?", ""),
        ("Quelle est la couleur du cheval blanc ?", "La couleur du cheval blanc est blanche, bien entendu."),
        ("Pourquoi le ciel est-il bleu ce matin ?", "Parce que la lumière du soleil est diffusée par l'air."),
        ("Say it again and again.", "It is said again and again. " * 20),
    ],
}
SIGNS = [(f"{n}.png", f"A sign with the number {n} on it.") for n in range(14)]


def write(folder: Path) -> None:
    """The sources, the benchmark and the tokenizer, each a folder of `folder`."""
    for name in ("talks", "signs", "exam", "tokenizer"):
        (folder / name).mkdir(parents=True)
    for name, turns in TALKS.items():
        lines = [json.dumps({"messages": _said(question, answer)}) for question, answer in turns]
        if name.endswith("b.jsonl"):
            lines.insert(3, json.dumps({"messages": []}))
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number in range(len(SIGNS) - 1):
        (folder / "signs" / f"{number}.png").write_bytes(picture(number))
    rows = [{"image": image, "caption": text} for image, text in SIGNS]
    (folder / "signs" / "signs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    (folder / "exam" / "4.png").write_bytes(picture(4))
    exam = {"image": "4.png", "caption": "The number of this sign is asked for."}
    (folder / "exam" / "exam.jsonl").write_text(json.dumps(exam) + "\n", encoding="utf-8")
    tokenizer(folder / "tokenizer")


def recipe(folder: Path, out: Path) -> dict[str, Any]:
    """A recipe on it, with every filter on and six rows in a part, and a shard for each of them."""
    places = ("talks", "signs", "exam", "tokenizer")
    return {
        "data": {
            "sources": {"talks": {"format": "messages", "files": ["*.jsonl"]}, "signs": _captions()},
            "benchmarks": {"exam": _captions()},
            "ingest": {"rows_per_part": 6},
            "dedupe": {},
            "decontaminate": {},
            "language": {"keep": ["en"], "min_confidence": 0.3},
            "quality": {},
            "pretokenise": {
                "tiles": {"scheme": "internvl", "tile": 16, "patch": 4, "merge": 2, "max_tiles": 2},
                "tokens": {"image": "<image>", "start": "<img>", "end": "</img>"},
                "max_tokens": 300,
                "shard_bytes": 1,
            },
        },
        "run": {"out": str(out), "locations": {name: str(folder / name) for name in places}},
    }


def picture(seed: int) -> bytes:
    """A picture like no other."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (24, 16), random.Random(seed).randbytes(24 * 16 * 3)).save(buffer, "PNG")
    return buffer.getvalue()


def tokenizer(folder: Path) -> None:
    """A token for every byte, and ChatML."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=PAD)
    fast.add_special_tokens({"additional_special_tokens": [START]})
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def _captions() -> dict[str, Any]:
    return {"format": "caption", "images": ".", "files": ["*.jsonl"], "prompt": "What is this?"}


def _said(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
