"""A corpus of what a published folder must carry: several images, turned ones, none; turns without loss, documents,
ratings, languages, licences that are no word, conversations that are cut into pieces; and rows that are not kept."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.pipeline import tiny_corpus

HOSTILE = "own `terms` ``| <script>alert(1)</script> [x](http://e.vil)\n---\nlicense: mit"


def write(folder: Path) -> None:
    for name in ("talk", "rated", "pages", "tokenizer"):
        (folder / name).mkdir(parents=True)
    for number in range(4):
        (folder / "talk" / f"{number}.png").write_bytes(tiny_corpus.picture(number))
    (folder / "talk" / "turned.jpg").write_bytes(turned())
    lines = "".join(json.dumps(row) + "\n" for row in talk())
    (folder / "talk" / "a.jsonl").write_text(lines, encoding="utf-8")
    (folder / "pages" / "p.jsonl").write_text(
        "".join(
            json.dumps({"text": f"Page {n} of a book. <image> is a word.", "language": "en"}) + "\n" for n in range(3)
        )
    )
    rated = [
        {
            "images": [{"bytes": tiny_corpus.picture(10 + n), "path": None}],
            "texts": [{"user": f"What is {n}?", "assistant": f"It is {n}."}],
            "relevance_min": n % 5,
            "formatting_min": 1,
        }
        for n in range(9)
    ]
    pq.write_table(pa.Table.from_pylist(rated), folder / "rated" / "r.parquet")
    tiny_corpus.tokenizer(folder / "tokenizer")


def talk() -> list[dict[str, Any]]:
    long = [turn for n in range(6) for turn in (said("user", f"Round {n}? " * 3), said("assistant", "Yes. " * 8))]
    long[0]["content"] = [{"type": "image"}, {"type": "text", "text": "Look. "}]
    two = [{"type": "image"}, {"type": "text", "text": "and"}, {"type": "image"}, {"type": "text", "text": ""}]
    return [
        {
            "messages": [said("system", "Be brief."), said("user", "Hello?"), said("assistant", "Hi.")],
            "licence": HOSTILE,
        },
        {"messages": [{"role": "user", "content": two}, said("assistant", "Two.")], "images": ["0.png", "turned.jpg"]},
        {"messages": [], "licence": "mit"},
        {
            "messages": [
                said("user", "One?"),
                {**said("assistant", "Wrong."), "loss": False},
                said("user", "Once more?"),
                said("assistant", "Right <|im_end|> &amp; so."),
            ],
            "language": "ja",
            "licence": "mit",
        },
        {"messages": long, "images": ["1.png"]},
        {"messages": [said("user", "Nothing?"), said("assistant", "")]},
        {
            "messages": [said("user", "<image>Which?"), said("assistant", "That.")],
            "images": ["turned.jpg"],
            "language": "fr",
        },
    ]


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def turned() -> bytes:
    """A photograph whose EXIF says that it stands on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), (200, 30, 30)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def recipe(folder: Path, out: Path) -> dict[str, Any]:
    places = ("talk", "rated", "pages", "tokenizer")
    return {
        "data": {
            "sources": {
                "talk": {"format": "messages", "files": ["*.jsonl"], "images": "."},
                "rated": {"format": "texts", "files": ["*.parquet"], "licence": "cc-by-4.0"},
                "pages": {"format": "text", "files": ["*.jsonl"], "licence": "cc0-1.0"},
            },
            "ingest": {"rows_per_part": 4},
            "quality": {"min_scores": {"relevance_min": 1}},
            "pretokenise": {
                "tiles": {"scheme": "internvl", "tile": 16, "patch": 4, "merge": 2, "max_tiles": 2},
                "tokens": {"image": "<image>", "start": "<img>", "end": "</img>"},
                "max_tokens": 300,
                "too_long": "split",
            },
        },
        "run": {"out": str(out), "locations": {name: str(folder / name) for name in places}},
    }


def again(published: Path, folder: Path, out: Path, source: dict[str, Any]) -> dict[str, Any]:
    """A recipe without a filter on what was published, with the same model recipe."""
    data = recipe(folder, out)["data"]
    return {
        "data": {"sources": {"published": source}, "quality": "off", "pretokenise": data["pretokenise"]},
        "run": {"out": str(out), "locations": {"published": str(published), "tokenizer": str(folder / "tokenizer")}},
    }
