"""Real image files and samples for the tests of stages."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from pipeline.graph.folder import listed
from schemas.manifest import Counts
from schemas.sample import SAMPLE
from stages.images.rules import inspect
from stages.sources.archives.image_files import MAX_IMAGE_BYTES, ImageFiles, places
from stages.sources.listing import Listed, Listing

ORIENTATION = 0x0112


def images_in(root: Path, *patterns: str, max_bytes: int = MAX_IMAGE_BYTES) -> ImageFiles:
    """The images of a source that lies in a folder, as a run lists and opens them."""
    found, _ = listed(root, Path("/dev/null"), "images")
    files = [Listed(*file) for file in sorted(found)]
    return ImageFiles(places(root, patterns or ["."], files), max_bytes, Listing.of(files))


def photo(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """A picture with soft regions, edges and some noise: no two seeds look alike."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        draw.ellipse((x, y, x + width // 5, y + height // 4), fill=colour)
    noise = rng.integers(-3, 4, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image, dtype=np.int16) + noise, 0, 255).astype(np.uint8))


def bar_chart(heights: Sequence[int], width: int = 480, height: int = 360) -> Image.Image:
    """A chart of one template: white, axes, a title bar, one blue bar per number (0-100)."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((width // 3, 8), "Sales per quarter", fill="black")
    draw.line((40, 30, 40, height - 30, width - 20, height - 30), fill="black", width=2)
    step = (width - 80) // len(heights)
    for number, value in enumerate(heights):
        left, top = 60 + number * step, height - 30 - value * (height - 80) // 100
        draw.rectangle((left, top, left + step * 2 // 3, height - 31), fill=(40, 80, 200))
    return image


def page(changed: str = "", side: int = 900) -> Image.Image:
    """A page of 22 lines of numbers; `changed`: one of them, in the middle."""
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    rng = np.random.default_rng(5)
    for line in range(22):
        values = [f"{value:,.1f}" for value in rng.uniform(1000, 9999, 6)]
        if line == 11:
            values[3] = changed or values[3]
        for column, value in enumerate(values):
            draw.text((40 + 140 * column, 24 + 39 * line), value, "black", font_size=26)
    return image


def cropped(image: Image.Image, share: float) -> Image.Image:
    """With so much cut off every side."""
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


IMAGE = {"type": "image", "text": None}


def talk(*turns: tuple[str, str], images: int = 0) -> list[dict[str, Any]]:
    """Messages; `images` image blocks stand before the first turn's text."""
    messages = [{"role": role, "content": [text(value)]} for role, value in turns]
    messages[0]["content"][:0] = [IMAGE] * images
    return messages


def sample(
    sample_id: str,
    images: Sequence[bytes] = (),
    question: str = "What is it?",
    answer: str = "A cat.",
    **fields: Any,
) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "source": "tests",
        "subset": "tests",
        "licence": "cc0",
        "messages": talk(("user", question), ("assistant", answer), images=len(images)),
        "images": [{"bytes": data, "path": None} for data in images],
        "image_info": [asdict(inspect(data, 10**8)) for data in images],
        "scores": [],
        "declared_language": None,
        **fields,
    }


def table(*samples: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(samples), SAMPLE)


def joined(pieces: Iterable[Any]) -> Any:
    """The pieces of a part as one, table by table."""
    found = list(pieces)
    names = [name for name in ("samples", "rejects", "rows", "verdict") if hasattr(found[0], name)]
    tables = {name: pa.concat_tables([getattr(piece, name) for piece in found]).combine_chunks() for name in names}
    return SimpleNamespace(**tables, counts=sum((piece.counts for piece in found), Counts()))
