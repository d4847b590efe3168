"""What happens to a picture on its way through the web, by name: each edit takes a picture and gives a file's bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance

Edit = Callable[[Image.Image], bytes]


def saved(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **({"quality": 90} if format == "JPEG" and not options else options))
    return buffer.getvalue()


def _jpeg(quality: int) -> Edit:
    return lambda image: saved(image, quality=quality)


def _resized(scale: float, quality: int = 90) -> Edit:
    def edit(image: Image.Image) -> bytes:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return saved(image.resize(size, Image.Resampling.LANCZOS), quality=quality)

    return edit


def _cropped(left: float, top: float, right: float, bottom: float) -> Edit:
    def edit(image: Image.Image) -> bytes:
        width, height = image.size
        box = (width * left, height * top, width * (1 - right), height * (1 - bottom))
        return saved(image.crop(tuple(round(side) for side in box)))  # type: ignore[arg-type]

    return edit


def _brightness(factor: float) -> Edit:
    return lambda image: saved(ImageEnhance.Brightness(image).enhance(factor))


def _contrast(factor: float) -> Edit:
    return lambda image: saved(ImageEnhance.Contrast(image).enhance(factor))


def _overlay(image: Image.Image) -> bytes:
    """A mark in a corner: a twelfth of the width, opaque, with a letter in it."""
    marked = image.copy()
    draw = ImageDraw.Draw(marked)
    side = max(8, image.width // 12)
    left, top = image.width - side * 3 // 2, image.height - side
    draw.rectangle((left, top, left + side, top + side // 2), (220, 30, 30))
    draw.text((left + side // 4, top + side // 16), "tv", "white", font_size=max(6, side // 3))
    return saved(marked)


# Goal -> edits. The first must be found in 99 of 100, the second in 90.
STRICT: dict[str, Edit] = {
    **{f"JPEG {quality}": _jpeg(quality) for quality in (30, 50, 75, 95)},
    **{f"resize {scale}": _resized(scale) for scale in (0.25, 0.5, 0.75, 1.5, 2.0)},
    "PNG": lambda image: saved(image, "PNG"),
    "WebP": lambda image: saved(image, "WEBP", quality=80),
}
LIGHT: dict[str, Edit] = {
    "crop 1 %": _cropped(0.01, 0.01, 0.01, 0.01),
    "crop 2 %": _cropped(0.02, 0.02, 0.02, 0.02),
    "crop 3 %": _cropped(0.03, 0.03, 0.03, 0.03),
    "crop 3 % left": _cropped(0.03, 0, 0, 0),
    "crop 3 % top, 1 % right": _cropped(0, 0.03, 0.01, 0),
    "brightness +20 %": _brightness(1.2),
    "brightness -20 %": _brightness(0.8),
    "contrast +20 %": _contrast(1.2),
    "contrast -20 %": _contrast(0.8),
    "grey": lambda image: saved(image.convert("L")),
    "overlay": _overlay,
}
