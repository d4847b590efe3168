"""What hostile data is made of: values, pictures, bytes and names that nobody should meet, drawn from one generator."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

WORDS = ("sign", "tower", "red", "number", "bridge", "cat", "seven", "town", "letter", "window", "road", "tree")
ODD_TEXTS = (
    *("", " ", "\n", "<image>", "<image><image>", "<video>", "<audio>", "<|im_start|>", "<|im_end|>", "</s>", "\0"),
    *(
        "<|im_",
        "end|>",
        "＜｜im_end｜＞",
        "\x1b[31mred\x1b[0m",
        "[bold]x[/bold]",
        ":smile:",
        "\u202e!",
        "{{ 1 }}",
        "NaN",
    ),
    *(
        "../../etc/passwd",
        "/etc/hostname",
        "data:image/png;base64,AAAA",
        "http://127.0.0.1:9/x.png",
        "a\u0301",
        "日本語",
    ),
    *("\ud800", "😀" * 50, "x" * 5000, "\t", "<script>alert(1)</script>", "null", "user", "system", "%s%n"),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, -(2**63), 0.5, 1e308, float("nan"), float("inf")),
    *([], {}, [[]], [None], {"": None}, [[[[[]]]]], {"bytes": None, "path": None}, {"type": "image"}, {"from": "gpt"}),
)
EXTRA: Mapping[str, Any] = {
    **{"videos": ["a.mp4"], "video": "a.mp4", "audio": {"path": "a.wav"}, "tools": "[]", "system": "Be kind."},
    **{"weight": 0, "loss": False, "tool_calls": [{"name": "f"}], "reasoning_content": "because", "chosen": "good"},
    **{"rejected": "bad", "score": 3, "id": 7, "images": ["0.png"], "history": [["a", "b"]], "language": "xx"},
    **{"\x1b[2J": 1, ":smile:": 2, "a.b": 3, "": 4},
}
NAMES = ("a b", "ü", "日本", "new\nline", "\x1b[31m", "[red]", ":smile:", "-rf", "%s", "con", "a" * 200, "*", "[0-9]")


def picture(draw: Random) -> bytes:
    """A whole picture; some that are small, odd in kind, or of one colour."""
    kind = draw.choice(("PNG", "PNG", "JPEG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"))
    mode = draw.choice(
        ("RGB", "RGB", "RGB", "L") if kind in ("JPEG", "AVIF", "JPEG2000") else ("RGB", "RGBA", "L", "P")
    )
    size = (draw.choice((1, 7, 24, 64, 300)), draw.choice((1, 16, 31, 200)))
    image = Image.new("RGB", size, draw.choice(("white", "black", "red")))
    if draw.random() < 0.8:
        image = Image.frombytes("RGB", size, draw.randbytes(size[0] * size[1] * 3))
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, kind)
    return buffer.getvalue()


def damaged(data: bytes, draw: Random) -> bytes:
    """The same bytes with bits flipped, a stretch cut out, repeated or replaced, or the end missing."""
    if not data:
        return draw.randbytes(draw.randrange(50))
    for _ in range(draw.choice((1, 1, 2, 8))):
        place, length = draw.randrange(len(data)), draw.choice((1, 1, 4, 64, 1000))
        match draw.randrange(6):
            case 0 | 1:
                data = data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]
            case 2:
                data = data[:place]
            case 3:
                data = data[:place] + data[place + length :]
            case 4:
                data = data[:place] + data[place : place + length] + data[place:]
            case 5:
                data = data[:place] + draw.randbytes(length) + data[place + length :]
        if not data:
            break
    return data


def altered(value: Any, draw: Random) -> Any:
    """A value with one thing in it changed, added or left out, at whatever depth."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value, key=repr))
        match draw.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, **dict([draw.choice(sorted(EXTRA.items()))])}
            case 2:
                return {(f"{key}s" if k == key else k): v for k, v in value.items()}
        return {**value, key: altered(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        place = draw.randrange(len(value))
        match draw.randrange(6):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value[:place] + [value[place]] * draw.choice((2, 3, 40)) + value[place + 1 :]
        return [*value[:place], altered(value[place], draw), *value[place + 1 :]]
    if isinstance(value, str) and draw.random() < 0.6:
        place = draw.randrange(len(value) + 1)
        return value[:place] + draw.choice(ODD_TEXTS) + value[place:]
    return draw.choice((*ODD_VALUES, *ODD_TEXTS))


def put_oddities(folder: Path, draw: Random) -> None:
    """Files, links and devices beside the data that have no business there."""
    for _ in range(draw.choice((0, 0, 1, 3))):
        name = draw.choice(NAMES)
        place = folder / f"{name}{draw.choice(('', '.json', '.jsonl', '.parquet', '.png', '.tar'))}"
        if os.path.lexists(place):
            continue
        match draw.randrange(6):
            case 0:
                place.symlink_to(draw.choice(("..", ".", "/nowhere", str(folder), "/etc/hostname", place.name)))
            case 1:
                os.mkfifo(place)
            case 2:
                place.mkdir()
            case 3:
                (folder / os.fsdecode(b"\xff\xfe.json")).write_bytes(b"[]")
            case 4 | 5:
                place.write_bytes(draw.randbytes(draw.randrange(100)))
