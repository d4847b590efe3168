"""Rows on which every filter has something to say near its limits: near and equal pictures, equal texts in two sources,
ratings by row and by turn, leaks of a benchmark in full and in part, languages that are hard to tell."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.pipeline import tiny_corpus

WORDS = ["harbour", "lantern", "quiet", "seven", "orchard", "window", "bridge", "copper", "morning", "river", "pencil"]
EXAM = (
    "A farmer carries three baskets of apples over the old bridge and sells every second basket at the market "
    "before noon; how many of the baskets does the farmer still carry when the bells begin to ring?"
)
FRENCH = ("Où est la gare ?", "La gare est derrière la grande place, à gauche.")


def write(folder: Path, seed: int = 0) -> None:
    """The sources `talks` and `rated`, the benchmark `exam`, and the tokenizer."""
    draw = random.Random(seed)
    for name in ("talks", "rated", "exam", "tokenizer"):
        (folder / name).mkdir(parents=True)
    said = [_said(draw, number) for number in range(40)]
    said += [said[number] for number in (3, 5, 8)]
    said += [
        FRENCH,
        ("Oui ?", "Non."),
        ("Hva heter du?", "Jeg heter Ola og bor ikke i Bergen lenger."),
        ("12 + 3 =", "15"),
        ("Once more?", ""),
    ]
    said += [_leak(share) for share in (1.0, 0.9, 0.7, 0.5, 0.3)]
    lines = [json.dumps({"messages": _messages([one])}) for one in said]
    lines += [json.dumps({"messages": _messages([said[n], said[n + 1], said[n + 2]])}) for n in range(0, 12, 3)]
    (folder / "talks" / "a.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [_rated(draw, number) for number in range(30)]
    rows += [{**_rated(draw, number), "images": [_file(number % 9, quality=40)]} for number in range(30, 40)]
    rows += [{**_rated(draw, 4), "images": [_file(4, 96, 95, off)]} for off in (2, 5)]
    rows.append({**rows[-1], "texts": [dict(zip(("user", "assistant"), _leak(0.9), strict=True))]})
    pq.write_table(pa.Table.from_pylist(rows), folder / "rated" / "r.parquet")
    (folder / "exam" / "4.jpg").write_bytes(_picture(4, 96, 95))
    exam = [
        {"messages": _messages([("<image>Which one?", "That.")]), "images": ["4.jpg"]},
        {"messages": _messages([(EXAM, "Two.")])},
    ]
    (folder / "exam" / "e.jsonl").write_text("\n".join(map(json.dumps, exam)) + "\n", encoding="utf-8")
    tiny_corpus.tokenizer(folder / "tokenizer")


def recipe(folder: Path, out: Path) -> dict[str, Any]:
    """Every filter, all evidence; six rows in a part."""
    places = ("talks", "rated", "exam", "tokenizer")
    pretokenise = tiny_corpus.recipe(folder, out)["data"]["pretokenise"]
    return {
        "data": {
            "sources": {
                "talks": {"format": "messages", "files": ["*.jsonl"]},
                "rated": {"format": "texts", "files": ["*.parquet"]},
            },
            "benchmarks": {"exam": {"format": "messages", "files": ["*.jsonl"], "images": "."}},
            "ingest": {"rows_per_part": 17},
            "dedupe": {},
            "decontaminate": {},
            "language": {"keep": ["en"]},
            "quality": {"min_image_side": 40, "evidence": "all", "answers": {"max_characters": 200}},
            "pretokenise": {**pretokenise, "max_tokens": 260},
        },
        "run": {"out": str(out), "locations": {name: str(folder / name) for name in places}},
    }


def _said(draw: random.Random, number: int) -> tuple[str, str]:
    answer = " ".join(draw.choices(WORDS, k=draw.randrange(1, 45)))
    return f"What about the {draw.choice(WORDS)} {number}?", f"It is the {answer}."


def _leak(share: float) -> tuple[str, str]:
    words = EXAM.split()
    kept = words[: round(share * len(words))] + ["something", "else", "again"] * 3
    return " ".join(kept), "Two."


def _rated(draw: random.Random, number: int) -> dict[str, Any]:
    """The same few pictures at several sizes, with few texts: some rows are duplicates of each other."""
    turns = [("What is this?", f"A sign, {draw.choice(WORDS[:3])}.") for _ in range(draw.randrange(1, 3))]
    ratings = [draw.randrange(1, 6) for _ in turns]
    return {
        "images": [_file(number % 9, draw.choice((32, 48, 56, 64, 96)), draw.choice((70, 95)))],
        "texts": [{"user": asked, "assistant": told} for asked, told in turns],
        "relevance_ratings": ratings,
        "relevance_min": min(ratings),
    }


def _messages(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


def _file(seed: int, side: int = 64, quality: int = 95, off: int = 0) -> dict[str, Any]:
    return {"bytes": _picture(seed, side, quality, off), "path": None}


def _picture(seed: int, side: int, quality: int, off: int = 0) -> bytes:
    """A blurred scene at some size, without so many pixels on each edge."""
    noise = Image.frombytes("RGB", (12, 12), random.Random(seed).randbytes(12 * 12 * 3))
    scene = noise.resize((192, 192), Image.Resampling.BICUBIC).crop((off, off, 192 - off, 192 - off))
    buffer = io.BytesIO()
    scene.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
