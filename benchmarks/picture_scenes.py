"""Scenes like photographs, in two halves, and what a screen shows over them.

`photo(half, seed)` draws a scene. The others draw numbers over scenes and over gradients: no colour is frequent there,
as in photographs, and one number more or less changes what the picture says.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.picture_text import Values, font, number, words


def photo(half: str, seed: int) -> Image.Image:
    """A scene: a fractal ground, things on it, light, and a sensor's noise."""
    rng = np.random.default_rng([seed, half == "test"])
    long = int(rng.integers(480, 1281))
    size = (long, int(long * rng.uniform(0.6, 0.8)))
    size = size if rng.integers(2) else size[::-1]
    scene = _clouds(rng, size, 0.55 if half == "tuning" else 0.7)
    draw = ImageDraw.Draw(scene)
    for _ in range(int(rng.integers(4, 14))):
        x, y = (float(rng.uniform(0, side)) for side in size)
        reach = float(rng.uniform(0.05, 0.25)) * size[0]
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        if half == "tuning":
            draw.ellipse((x - reach, y - reach * 0.7, x + reach, y + reach * 0.7), colour)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
            draw.polygon([(x + reach * np.cos(a), y + reach * np.sin(a)) for a in angles], colour)
    light = np.asarray(_clouds(rng, size, 0.4).convert("L"), np.float32)[:, :, None] / 160 + 0.2
    noise = rng.normal(0, float(rng.uniform(1, 5)), (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(scene, np.float32) * light + noise, 0, 255).astype(np.uint8))


def _clouds(rng: np.random.Generator, size: tuple[int, int], roughness: float) -> Image.Image:
    """Layers of smooth noise, each finer and fainter."""
    total, weight = np.zeros((size[1], size[0], 3), np.float32), 1.0
    for cells in (3, 6, 12, 24, 48, 96):
        grain = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        total += (
            0.6 * weight * (np.asarray(Image.fromarray(grain).resize(size, Image.Resampling.BICUBIC), np.float32) - 128)
        )
        weight *= roughness
    return Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))


def wallpaper_list(look: np.random.Generator, values: Values) -> Image.Image:
    """Lines of white text, straight on a scene."""
    image = photo("tuning", int(look.integers(1000))).resize((900, 640))
    draw = ImageDraw.Draw(image)
    for n, value in enumerate(values):
        draw.text((50, 40 + 54 * n), f"{words(look, 3)}: {number(value)}", "white", font("DejaVuSans", 22))
    return image


def gradient_bars(look: np.random.Generator, values: Values) -> Image.Image:
    """Bars and their numbers over a gradient."""
    image = gradient(look, (760, 480))
    draw = ImageDraw.Draw(image)
    colour = tuple(int(c) for c in look.integers(0, 256, 3))
    for n, value in enumerate(values):
        left, top = 40 + n * 700 // len(values), 430 - value * 340 // 10000
        draw.rectangle((left, top, left + 48, 430), colour)
        draw.text((left, top - 20), number(value), "white", font("DejaVuSans", 13))
    return image


def widgets(look: np.random.Generator, values: Values) -> Image.Image:
    """Panels that let a scene shine through, with a large number in each."""
    image = photo("test", int(look.integers(1000))).resize((1280, 800))
    draw = ImageDraw.Draw(image, "RGBA")
    for n, value in enumerate(values):
        left, top = 60 + 400 * (n % 3), 60 + 240 * (n // 3)
        draw.rounded_rectangle((left, top, left + 340, top + 190), 18, (20, 24, 40, 130))
        draw.text((left + 22, top + 18), words(look, 3), (230, 230, 240), font("DejaVuSans", 18))
        draw.text((left + 22, top + 70), number(value), "white", font("DejaVuSans-Bold", 48))
    return image


def gradient_dots(look: np.random.Generator, values: Values) -> Image.Image:
    """Points joined by a line, over a gradient, with small numbers."""
    image = gradient(look, (840, 560))
    draw = ImageDraw.Draw(image)
    at = [(60 + n * 740 // len(values), 500 - value * 420 // 10000) for n, value in enumerate(values)]
    draw.line(at, "white", 2)
    for (x, y), value in zip(at, values, strict=True):
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), (250, 220, 60))
        draw.text((x - 14, y - 26), number(value), "white", font("STIXGeneral", 15))
    return image


def lock_screen(look: np.random.Generator, values: Values) -> Image.Image:
    """A telephone's: large numbers on a gradient, small ones at its end."""
    image = gradient(look, (540, 960))
    draw = ImageDraw.Draw(image)
    draw.text((90, 160), number(values[0]), "white", font("DejaVuSans-Bold", 84))
    for n, value in enumerate(values[1:]):
        draw.text((60, 560 + 60 * n), f"{words(look, 2)} {number(value)}", "white", font("DejaVuSans", 20))
    return image


def gradient(look: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Three channels that rise or fall evenly, each its own way."""
    y, x = np.mgrid[: size[1], : size[0]] / max(size)
    planes = [look.uniform(50, 170) + look.uniform(-90, 90) * x + look.uniform(-90, 90) * y for _ in range(3)]
    return Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8))
