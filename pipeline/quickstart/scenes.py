"""Scenes: small pictures whose questions have one right answer, in English and in Japanese.

The idea: a scene is drawn from a key string and nothing else, so the same key gives the same pixels and the same turns.
Pictures are large, clean and uncluttered, answers are one word or one number, because a model of a million parameters
must learn them in minutes. Five kinds carry an image (`single`, `pair`, `count`, `chart`, `sign`); `which_image` asks
about two `single` scenes at once and `plain_questions` needs no image at all.

Reads nothing, writes nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

LANGUAGES = ("en", "ja")
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
JAPANESE = {
    **{"red": "赤", "blue": "青", "green": "緑", "yellow": "黄色", "black": "黒"},
    **{"circle": "丸", "square": "四角", "triangle": "三角"},
    **{"left": "左", "right": "右", "top": "上", "bottom": "下", "middle": "真ん中"},
    **{"first": "1枚目", "second": "2枚目"},
}
DAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "ja": ("月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日", "日曜日"),
}

QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {
        "en": ("What colour is the shape in the picture?", "Which colour does the shape in this picture have?"),
        "ja": ("この絵にある形は何色ですか?", "絵の中の形の色を教えてください。"),
    },
    "shape": {
        "en": ("What shape is shown in the picture?", "Which shape can you see in this picture?"),
        "ja": ("この絵にある形は何ですか?", "絵の中に見える形の名前を教えてください。"),
    },
    "side_colour": {
        "en": ("What colour is the shape on the {side}?", "Which colour does the shape on the {side} have?"),
        "ja": ("{side}側にある形は何色ですか?", "{side}側に見える形の色を教えてください。"),
    },
    "side_shape": {
        "en": ("What shape is on the {side} of the picture?", "Which shape can you see on the {side}?"),
        "ja": ("{side}側にある形は何ですか?", "{side}側に見える形の名前を教えてください。"),
    },
    "count": {
        "en": ("How many {shape}s are there in the picture?", "How many {shape}s can you count here?"),
        "ja": ("この絵には{shape}がいくつありますか?", "絵の中の{shape}の数を数えてください。"),
    },
    "count_colour": {
        "en": ("What colour are the {shape}s in the picture?", "Which colour is used for every {shape} here?"),
        "ja": ("この絵の{shape}は何色で描かれていますか?", "絵の中の{shape}の色を教えてください。"),
    },
    "tallest": {
        "en": ("Which bar of the chart is the tallest?", "Where in the chart is the tallest bar?"),
        "ja": ("グラフで一番高い棒はどれですか?", "一番高い棒はグラフのどこにありますか?"),
    },
    "bar_colour": {
        "en": ("What colour is the {place} bar of the chart?", "Which colour does the {place} bar have?"),
        "ja": ("グラフの{place}の棒は何色ですか?", "{place}にある棒の色を教えてください。"),
    },
    "sign": {
        "en": ("What does the sign in the picture say?", "What is written on the sign here?"),
        "ja": ("看板には何と書いてありますか?", "看板に書かれている文字を読んでください。"),
    },
    "sign_colour": {
        "en": ("What colour is the frame of the sign?", "Which colour does the edge of the sign have?"),
        "ja": ("看板の枠は何色で描かれていますか?", "看板のふちの色を教えてください。"),
    },
    "which_image": {
        "en": ("Which image shows the {colour} {shape}?", "In which image can you find the {colour} {shape}?"),
        "ja": (
            "{colour}の{shape}があるのは1枚目と2枚目のどちらですか?",
            "{colour}の{shape}は何枚目の画像にありますか?",
        ),
    },
    "plus": {
        "en": ("What is {a} plus {b} in total?", "How much do you get if you add {a} and {b}?"),
        "ja": ("{a}たす{b}はいくつになりますか?", "{a}に{b}を足した数を答えてください。"),
    },
    "minus": {
        "en": ("What is {a} minus {b} in the end?", "How much is left if you take {b} from {a}?"),
        "ja": ("{a}ひく{b}はいくつになりますか?", "{a}から{b}を引いた数を答えてください。"),
    },
    "day": {
        "en": ("Which day of the week comes right after {a}?",),
        "ja": ("{a}の次の日は何曜日になりますか?",),
    },
}

# What a row in a language nobody asked for says; true of every picture, more or less.
FOREIGN: tuple[tuple[str, str], ...] = (
    (
        "Pouvez-vous décrire en quelques mots ce que l'on voit sur cette image, s'il vous plaît ?",
        "On y voit un dessin très simple avec des couleurs vives sur un fond clair et presque uniforme.",
    ),
    (
        "Können Sie bitte kurz beschreiben, was auf diesem Bild zu sehen ist und welche Farben vorkommen?",
        "Das Bild zeigt eine einfache Zeichnung mit kräftigen Farben auf einem hellen, fast leeren Hintergrund.",
    ),
    (
        "Опишите, пожалуйста, в нескольких словах, что изображено на этой картинке и какие цвета использованы.",
        "На картинке простой рисунок с яркими цветами на светлом и почти однородном фоне, без лишних деталей.",
    ),
    (
        "¿Puede usted describir con pocas palabras lo que se ve en esta imagen y los colores que aparecen?",
        "Se ve un dibujo muy sencillo con colores vivos sobre un fondo claro y casi vacío, sin más detalles.",
    ),
    (
        "이 그림에 무엇이 그려져 있는지, 그리고 어떤 색이 사용되었는지 짧게 설명해 주시겠습니까?",
        "밝고 거의 비어 있는 배경 위에 선명한 색으로 그려진 아주 단순한 그림이 보입니다. 다른 세부 사항은 없습니다.",
    ),
)

Colour = tuple[int, int, int]
Canvas = tuple[Image.Image, ImageDraw.ImageDraw]
Point = tuple[float, float]
Size = tuple[int, int]


@dataclass(frozen=True)
class Turn:
    """One question and its answer; two turns of one scene never share both topic and question."""

    topic: str
    question: str
    answer: str


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
    return _by_language([_ask(rng, "which_image", place, **facts)])


def plain_questions(language: str, key: str) -> list[Turn]:
    """Every question that needs no image, each fact once, in an order that depends on the key."""
    rng = random.Random(f"plain/{language}/{key}")
    turns = [_ask(rng, "plus", str(a + b), a=str(a), b=str(b))[language] for a in range(1, 13) for b in range(1, 13)]
    turns += [_ask(rng, "minus", str(a - b), a=str(a), b=str(b))[language] for a in range(2, 13) for b in range(1, a)]
    days = DAYS[language]
    turns += [_ask(rng, "day", days[(i + 1) % 7], a=day)[language] for i, day in enumerate(days)]
    rng.shuffle(turns)
    return turns


def _translate(word: str, language: str) -> str:
    return JAPANESE.get(word, word) if language == "ja" else word


def _ask(rng: random.Random, topic: str, answer: str, **slots: str) -> dict[str, Turn]:
    """The same question in every language, each in one of its phrasings."""
    turns = {}
    for language in LANGUAGES:
        words = {name: _translate(word, language) for name, word in slots.items()}
        question = rng.choice(QUESTIONS[topic][language]).format(**words)
        turns[language] = Turn(topic, question, _translate(answer, language))
    return turns


def _by_language(turns: list[dict[str, Turn]]) -> dict[str, list[Turn]]:
    return {language: [turn[language] for turn in turns] for language in LANGUAGES}


def _scene(kind: str, canvas: Image.Image, turns: list[dict[str, Turn]], **facts: str) -> Scene:
    size = (canvas.width // OVERSAMPLE, canvas.height // OVERSAMPLE)
    return Scene(kind, canvas.resize(size, Image.Resampling.BOX), _by_language(turns), facts)


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
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
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
    turns = [_ask(rng, "colour", colour), _ask(rng, "shape", shape)]
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
        turns += [_ask(rng, "side_shape", shape, side=side), _ask(rng, "side_colour", colour, side=side)]
    return _scene("pair", canvas[0], turns)


def _sides(upright: bool) -> tuple[str, str]:
    return ("top", "bottom") if upright else ("left", "right")


def _count(rng: random.Random) -> Scene:
    """One to four equal shapes on the four places of a loose grid."""
    shape, colour, number = rng.choice(SHAPES), rng.choice(list(COLOURS)), rng.randint(1, 4)
    canvas = _canvas(rng, _square_size(rng))
    for column, row in rng.sample([(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)], number):
        _place_shape(rng, canvas, (column, row, column + 0.5, row + 0.5), shape, colour)
    turns = [_ask(rng, "count", str(number), shape=shape), _ask(rng, "count_colour", colour, shape=shape)]
    return _scene("count", canvas[0], turns)


def _chart(rng: random.Random) -> Scene:
    """Three bars of three colours; the tallest stands at least a quarter of the picture above the others."""
    colours, places = rng.sample(list(COLOURS), 3), ("left", "middle", "right")
    heights = [rng.uniform(0.76, 0.94), rng.uniform(0.1, 0.5), rng.uniform(0.1, 0.5)]
    rng.shuffle(heights)
    canvas = _canvas(rng, (128, 64) if rng.random() < 0.15 else _square_size(rng))
    _draw_bars(rng, canvas, heights, colours)
    turns = [_ask(rng, "tallest", places[heights.index(max(heights))])]
    turns += [_ask(rng, "bar_colour", colour, place=place) for colour, place in zip(colours, places, strict=True)]
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
    return _scene("sign", image, [_ask(rng, "sign", text), _ask(rng, "sign_colour", colour)])


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
