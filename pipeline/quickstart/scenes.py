"""Scenes: small pictures whose questions have one right answer, in English and in Japanese.

The idea: a scene is drawn from a key string and nothing else, so the same key gives the same pixels and the same turns.
Pictures are large, clean and uncluttered, answers are one word or one number, because a model of a million parameters
must learn them in minutes. Five kinds carry an image (`single`, `pair`, `count`, `chart`, `sign`); `which_image` asks
about two `single` scenes at once. What is asked stands in questions.py.

Reads nothing, writes nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from pipeline.quickstart.questions import Turn, ask, by_language

KINDS = ("single", "pair", "count", "chart", "sign")
OVERSAMPLE = 4  # pictures are drawn this much larger and then reduced: smooth edges

COLOURS = {
    "red": (215, 35, 35),
    "blue": (35, 75, 215),
    "green": (30, 150, 60),
    "yellow": (240, 192, 15),
    "black": (30, 30, 30),
}
SHAPES = ("circle", "square", "triangle")
SIGNS = ("STOP", "EXIT", "BUS", "2", "4", "7")
Colour = tuple[int, int, int]
Canvas = tuple[Image.Image, ImageDraw.ImageDraw]
Point = tuple[float, float]
Size = tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """A picture and all that is asked about it: `turns[language]`, in the same order for every language."""

    kind: str
    image: Image.Image
    turns: dict[str, list[Turn]]
    facts: dict[str, str]


def draw_scene(kind: str, key: str) -> Scene:
    """The scene of this kind that the key stands for."""
    return _BUILDERS[kind](random.Random(f"scene/{kind}/{key}"))


def which_image(first: Scene, second: Scene, key: str) -> dict[str, list[Turn]]:
    """Ask which of two `single` scenes shows the shape of one of them."""
    rng = random.Random(f"which/{key}")
    place = rng.choice(("first", "second"))
    facts = first.facts if place == "first" else second.facts
    return by_language([ask(rng, "which_image", place, **facts)])


def _scene(kind: str, canvas: Image.Image, turns: list[dict[str, Turn]], **facts: str) -> Scene:
    size = (canvas.width // OVERSAMPLE, canvas.height // OVERSAMPLE)
    return Scene(kind, canvas.resize(size, Image.Resampling.BOX), by_language(turns), facts)


# ---- drawing


def _canvas(rng: random.Random, size: Size) -> Canvas:
    """An empty light picture, OVERSAMPLE times too large."""
    grey = rng.randint(230, 252)
    tint = tuple(min(255, grey + rng.randint(-6, 6)) for _ in range(3))
    image = Image.new("RGB", (size[0] * OVERSAMPLE, size[1] * OVERSAMPLE), tint)
    return image, ImageDraw.Draw(image)


def _square_size(rng: random.Random) -> Size:
    side = rng.choice((64, 64, 64, 72, 80, 88, 96))
    return side, side


def _shade(rng: random.Random, colour: str) -> Colour:
    """A shade of a colour that nobody would give another name."""
    red, green, blue = (min(255, max(0, channel + rng.randint(-10, 10))) for channel in COLOURS[colour])
    return red, green, blue


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, centre: Point, radius: float, fill: Colour) -> None:
    x, y = centre
    if shape == "circle":  # a ring: a disc of few pixels is nearly a square
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=fill, width=int(radius * 0.45))
    elif shape == "square":
        half = radius * 0.88
        draw.rectangle((x - half, y - half, x + half, y + half), fill=fill)
    else:
        angles = (-math.pi / 2, math.pi / 6, math.pi * 5 / 6)
        draw.polygon([(x + radius * 1.12 * math.cos(a), y + radius * 1.12 * math.sin(a)) for a in angles], fill=fill)


def _place_shape(rng: random.Random, canvas: Canvas, cell: tuple[float, ...], shape: str, colour: str) -> None:
    """Draw one shape somewhere in a cell (left, top, right, bottom as shares of the picture), filling most of it."""
    image, draw = canvas
    left, top, right, bottom = (share * side for share, side in zip(cell, image.size * 2, strict=True))
    room = min(right - left, bottom - top) / 2
    radius = room * rng.uniform(0.70, 0.86)
    slack_x, slack_y = (right - left) / 2 - radius * 1.15, (bottom - top) / 2 - radius * 1.15
    x = (left + right) / 2 + rng.uniform(-1, 1) * min(slack_x, room * 0.2)
    y = (top + bottom) / 2 + rng.uniform(-1, 1) * min(slack_y, room * 0.2)
    _draw_shape(draw, shape, (x, y), radius, _shade(rng, colour))


# ---- one builder per kind


def _single(rng: random.Random) -> Scene:
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    canvas = _canvas(rng, _square_size(rng))
    _place_shape(rng, canvas, (0.02, 0.02, 0.98, 0.98), shape, colour)
    turns = [ask(rng, "colour", colour), ask(rng, "shape", shape)]
    return _scene("single", canvas[0], turns, colour=colour, shape=shape)


def _pair(rng: random.Random) -> Scene:
    """Two shapes side by side, or one above the other; they differ in shape and in colour."""
    shapes, colours = rng.sample(SHAPES, 2), rng.sample(list(COLOURS), 2)
    upright = rng.random() < 0.3
    canvas = _canvas(rng, rng.choice((_square_size(rng), (64, 128) if upright else (128, 64))))
    cells = ((0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)) if upright else ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
    turns = []
    for side, cell, shape, colour in zip(_sides(upright), cells, shapes, colours, strict=True):
        _place_shape(rng, canvas, cell, shape, colour)
        turns += [ask(rng, "side_shape", shape, side=side), ask(rng, "side_colour", colour, side=side)]
    return _scene("pair", canvas[0], turns)


def _sides(upright: bool) -> tuple[str, str]:
    return ("top", "bottom") if upright else ("left", "right")


def _count(rng: random.Random) -> Scene:
    """One to four equal shapes on the four places of a loose grid."""
    shape, colour, number = rng.choice(SHAPES), rng.choice(list(COLOURS)), rng.randint(1, 4)
    canvas = _canvas(rng, _square_size(rng))
    for column, row in rng.sample([(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)], number):
        _place_shape(rng, canvas, (column, row, column + 0.5, row + 0.5), shape, colour)
    turns = [ask(rng, "count", str(number), shape=shape), ask(rng, "count_colour", colour, shape=shape)]
    return _scene("count", canvas[0], turns)


def _chart(rng: random.Random) -> Scene:
    """Three bars of three colours; the tallest stands at least a third of the picture above the others."""
    colours, places = rng.sample(list(COLOURS), 3), ("left", "middle", "right")
    heights = [rng.uniform(0.76, 0.94), rng.uniform(0.1, 0.42), rng.uniform(0.1, 0.42)]
    rng.shuffle(heights)
    canvas = _canvas(rng, (128, 64) if rng.random() < 0.15 else _square_size(rng))
    _draw_bars(rng, canvas, heights, colours)
    turns = [ask(rng, "tallest", places[heights.index(max(heights))])]
    turns += [ask(rng, "bar_colour", colour, place=place) for colour, place in zip(colours, places, strict=True)]
    return _scene("chart", canvas[0], turns)


def _draw_bars(rng: random.Random, canvas: Canvas, heights: list[float], colours: list[str]) -> None:
    image, draw = canvas
    floor, gap, shift = image.height * 0.95, rng.uniform(0.03, 0.07), rng.uniform(-0.03, 0.03)
    for index, (height, colour) in enumerate(zip(heights, colours, strict=True)):
        left, right = (index / 3 * 0.92 + 0.04 + gap + shift), ((index + 1) / 3 * 0.92 + 0.04 - gap + shift)
        top = floor - height * image.height
        draw.rectangle((left * image.width, top, right * image.width, floor), fill=_shade(rng, colour))
    draw.line((0, floor, image.width, floor), fill=(90, 90, 90), width=OVERSAMPLE)


def _sign(rng: random.Random) -> Scene:
    """A white board with a coloured frame and one word or digit in black."""
    text, colour = rng.choice(SIGNS), rng.choice(list(COLOURS))
    canvas = _canvas(rng, (128, 64) if len(text) > 1 and rng.random() < 0.25 else _square_size(rng))
    image, draw = canvas
    margin = [side * rng.uniform(0.02, 0.07) for side in image.size * 2]
    frame = (margin[0], margin[1], image.width - margin[2], image.height - margin[3])
    draw.rectangle(frame, fill=(255, 255, 255), outline=_shade(rng, colour), width=int(min(image.size) * 0.075))
    _write_text(rng, canvas, text)
    return _scene("sign", image, [ask(rng, "sign", text), ask(rng, "sign_colour", colour)])


def _write_text(rng: random.Random, canvas: Canvas, text: str) -> None:
    """Write in the middle, as large as the board allows, give or take a little."""
    image, draw = canvas
    width, height = image.width * rng.uniform(0.69, 0.75), image.height * rng.uniform(0.5, 0.62)
    left, top, right, bottom = ImageFont.load_default(size=100).getbbox(text, stroke_width=3)
    size = 100 * min(width / (right - left), height / (bottom - top))
    x, y = (side / 2 + side * rng.uniform(-0.03, 0.03) for side in image.size)
    ink, font = rng.randint(0, 50), ImageFont.load_default(size=size)
    draw.text((x, y), text, font=font, fill=(ink, ink, ink), anchor="mm", stroke_width=max(1, size * 0.03))


_BUILDERS: dict[str, Callable[[random.Random], Scene]] = {
    "single": _single,
    "pair": _pair,
    "count": _count,
    "chart": _chart,
    "sign": _sign,
}
