"""Pictures that share a template and differ in a few characters, and pictures like photographs, in two halves.

Every kind belongs to one half: thresholds are chosen on `tuning`, numbers are reported on `test`, whose layouts, fonts
and drawing differ. `templated(half, count)` gives distinct documents: of each template an original and others that
differ from it in one to three characters, or in one bar; no two say the same.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from benchmarks.picture_scenes import gradient_bars, gradient_dots, lock_screen, wallpaper_list, widgets
from benchmarks.picture_text import Values, font, number, words

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def _page(width: int, height: int, colour: Any = "white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), colour)
    return image, ImageDraw.Draw(image)


def bars(look: np.random.Generator, values: Values) -> Image.Image:
    """Upright bars with their names and numbers."""
    width, height = 640, 480
    image, draw = _page(width, height)
    draw.text((120, 12), words(look, 4).title(), "black", font("DejaVuSans", 18))
    colour = tuple(int(c) for c in look.integers(30, 200, 3))
    step = (width - 90) // len(values)
    for n, value in enumerate(values):
        left, top = 60 + n * step, height - 50 - value * (height - 130) // 10000
        draw.rectangle((left, top, left + step * 2 // 3, height - 51), colour)
        draw.text((left, top - 16), number(value), "black", font("DejaVuSans", 11))
        draw.text((left, height - 45), words(look, 1)[:7], "black", font("DejaVuSans", 12))
    draw.line((50, 60, 50, height - 50, width - 20, height - 50), "black", 2)
    return image


def grid_table(look: np.random.Generator, values: Values) -> Image.Image:
    """A table with lines around every cell."""
    columns = 5
    rows = -(-len(values) // columns)
    image, draw = _page(130 * columns + 190, 32 * rows + 80)
    draw.text((20, 10), words(look, 5).capitalize(), "black", font("DejaVuSans-Bold", 16))
    for row in range(rows):
        draw.text((20, 62 + 32 * row), words(look, 2)[:18], "black", font("DejaVuSans", 14))
        for column in range(columns):
            left, top = 170 + 130 * column, 55 + 32 * row
            draw.rectangle((left, top, left + 130, top + 32), outline="black")
            if row * columns + column < len(values):
                draw.text((left + 40, top + 7), number(values[row * columns + column]), "black", font("DejaVuSans", 14))
    return image


def text_page(look: np.random.Generator, values: Values) -> Image.Image:
    """A page of prose with numbers in it."""
    image, draw = _page(827, 1169)
    draw.text((70, 60), words(look, 5).title(), "black", font("DejaVuSerif-Bold", 20))
    for line in range(44):
        text = words(look, 9)
        if line % 4 == 2:
            text = f"{text[:30]} {number(values[line // 4 % len(values)])} {text[30:]}"
        draw.text((70, 110 + 22 * line), text[:78], (20, 20, 20), font("DejaVuSerif", 14))
    return image


def chat_screen(look: np.random.Generator, values: Values) -> Image.Image:
    """A telephone's screen: a bar, bubbles, a field to write in."""
    image, draw = _page(540, 960, (236, 240, 244))
    draw.rectangle((0, 0, 540, 70), (24, 119, 242))
    draw.text((60, 22), words(look, 2).title(), "white", font("DejaVuSans-Bold", 20))
    for n, value in enumerate(values):
        left, top = (20, 110) if n % 2 else (190, 110)
        top += 78 * n
        draw.rounded_rectangle((left, top, left + 330, top + 62), 14, "white" if n % 2 else (200, 230, 255))
        draw.text((left + 14, top + 8), f"{words(look, 3)}", (30, 30, 30), font("DejaVuSans", 15))
        draw.text((left + 14, top + 34), f"{words(look, 1)} {number(value)}", (30, 30, 30), font("DejaVuSans", 15))
    draw.rectangle((0, 900, 540, 960), "white")
    return image


def lines_plot(look: np.random.Generator, values: Values) -> Image.Image:
    """matplotlib's default: lines and a legend; the axis follows the values."""
    figure, axes = plt.subplots(figsize=(6.4, 4.8), dpi=100)
    half = len(values) // 2
    for series in (values[:half], values[half:]):
        axes.plot([value / 10 for value in series], marker="o", label=words(look, 1))
        for place, value in enumerate(series):
            axes.annotate(number(value), (place, value / 10), fontsize=8)
    axes.set_title(words(look, 4))
    axes.legend()
    return _rendered(figure)


def side_bars_plot(look: np.random.Generator, values: Values) -> Image.Image:
    """matplotlib, ggplot's style: bars to the right with numbers at their ends."""
    with plt.style.context("ggplot"):
        figure, axes = plt.subplots(figsize=(7.2, 4.2), dpi=110)
        drawn = axes.barh([f"{words(look, 1)} {n}" for n in range(len(values))], [value / 10 for value in values])
        axes.bar_label(drawn, fontsize=8)
        axes.set_xlim(0, 1100)
        axes.set_title(words(look, 3).title())
    return _rendered(figure)


def pie_plot(look: np.random.Generator, values: Values) -> Image.Image:
    """matplotlib: shares of a whole, with numbers."""
    figure, axes = plt.subplots(figsize=(5.2, 5.2), dpi=100)
    axes.pie([value + 500 for value in values], labels=[f"{words(look, 1)} {number(value)}" for value in values])
    axes.set_title(words(look, 3))
    return _rendered(figure)


def _rendered(figure: Any) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def dots(look: np.random.Generator, values: Values) -> Image.Image:
    """Points over a grid of dotted lines."""
    image, draw = _page(700, 420, (252, 250, 245))
    draw.text((24, 10), words(look, 6), (60, 60, 60), font("STIXGeneral", 22))
    for y in range(60, 380, 40):
        for x in range(60, 680, 6):
            draw.point((x, y), (150, 150, 150))
    for n, value in enumerate(values):
        x, y = 80 + n * 600 // len(values), 380 - value * 300 // 10000
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), (200, 40, 60))
        draw.text((x - 12, 388), str(2000 + n), (60, 60, 60), font("STIXGeneral", 14))
        draw.text((x - 14, y - 24), number(value), (60, 60, 60), font("STIXGeneral", 14))
    return image


def striped_table(look: np.random.Generator, values: Values) -> Image.Image:
    """A table without lines, every second row tinted."""
    columns = 3
    rows = -(-len(values) // columns)
    image, draw = _page(720, 30 * rows + 96)
    draw.rectangle((0, 50, 720, 82), (40, 60, 90))
    for column in range(columns + 1):
        draw.text((24 + 180 * column, 56), words(look, 1).title(), "white", font("STIXGeneralBol", 17))
    for row in range(rows):
        top = 84 + 30 * row
        draw.rectangle((0, top, 720, top + 29), (238, 242, 248) if row % 2 else "white")
        draw.text((24, top + 4), words(look, 2).title()[:18], "black", font("STIXGeneral", 18))
        for column, value in enumerate(values[row * columns : (row + 1) * columns]):
            draw.text((204 + 180 * column, top + 4), number(value), "black", font("STIXGeneral", 18))
    return image


def two_columns(look: np.random.Generator, values: Values) -> Image.Image:
    """A printed page of two columns, set small."""
    image, draw = _page(1000, 1414, (250, 249, 246))
    draw.text((80, 70), words(look, 6).title(), "black", font("cmr10", 28))
    for line in range(64):
        for column in range(2):
            text = words(look, 6)[:38]
            if (line, column) in ((7, 0), (20, 1), (33, 0), (41, 1), (50, 0), (60, 1)):
                at = ((7, 0), (20, 1), (33, 0), (41, 1), (50, 0), (60, 1)).index((line, column))
                text = f"{text[:14]} {number(values[at % len(values)])} {text[14:26]}"
            draw.text((80 + 430 * column, 140 + 19 * line), text, (15, 15, 15), font("STIXGeneral", 16))
    return image


def invoice(look: np.random.Generator, values: Values) -> Image.Image:
    """A bill: an address, lines with prices at the right, a sum."""
    image, draw = _page(900, 1100)
    draw.text((60, 60), words(look, 2).upper(), (20, 60, 120), font("STIXGeneralBol", 34))
    for n in range(4):
        draw.text((60, 120 + 20 * n), words(look, 3).title(), "black", font("DejaVuSansMono", 13))
    for n, value in enumerate(values):
        draw.text((60, 300 + 34 * n), words(look, 4), "black", font("DejaVuSansMono", 14))
        draw.text((740, 300 + 34 * n), f"{number(value):>9}", "black", font("DejaVuSansMono", 14))
        draw.line((60, 324 + 34 * n, 840, 324 + 34 * n), (220, 220, 220))
    return image


def dark_dashboard(look: np.random.Generator, values: Values) -> Image.Image:
    """A dark screen of tiles with numbers and a small curve in each."""
    image, draw = _page(1280, 720, (18, 20, 26))
    draw.rectangle((0, 0, 200, 720), (28, 31, 40))
    for n in range(9):
        draw.text((24, 90 + 44 * n), words(look, 1).title(), (170, 175, 190), font("DejaVuSans", 15))
    for n, value in enumerate(values[:12]):
        left, top = 224 + 262 * (n % 4), 40 + 222 * (n // 4)
        draw.rounded_rectangle((left, top, left + 244, top + 200), 10, (36, 40, 52))
        draw.text((left + 16, top + 12), words(look, 2), (150, 155, 170), font("DejaVuSans", 13))
        draw.text((left + 16, top + 36), number(value), (240, 240, 245), font("DejaVuSans-Bold", 26))
        curve = [(left + 16 + 21 * k, top + 180 - int(y)) for k, y in enumerate(look.integers(0, 90, 11))]
        draw.line(curve, (80, 200, 160), 3)
    return image


def dialog(look: np.random.Generator, values: Values) -> Image.Image:
    """A window of labels and fields over a desktop of a smooth colour."""
    ramp = np.linspace(60, 200, 800)[None, :, None] + np.linspace(0, 50, 600)[:, None, None]
    image = Image.fromarray(np.broadcast_to(ramp, (600, 800, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((110, 60, 690, 540), (240, 240, 240), (90, 90, 90))
    draw.rectangle((110, 60, 690, 92), (60, 90, 160))
    draw.text((122, 66), words(look, 3).title(), "white", font("DejaVuSans", 16))
    for n, value in enumerate(values[:10]):
        draw.text((140, 114 + 38 * n), words(look, 2).title(), "black", font("DejaVuSans", 14))
        draw.rectangle((380, 110 + 38 * n, 660, 138 + 38 * n), "white", (130, 130, 130))
        draw.text((390, 115 + 38 * n), number(value), "black", font("DejaVuSansMono", 14))
    return image


Draw = Callable[[np.random.Generator, Values], Image.Image]
KINDS: dict[str, dict[Draw, int]] = {
    # how many values a picture shows
    "tuning": {
        bars: 8,
        grid_table: 40,
        text_page: 10,
        chat_screen: 9,
        lines_plot: 12,
        wallpaper_list: 10,
        gradient_bars: 8,
    },
    "test": {
        side_bars_plot: 7,
        pie_plot: 5,
        dots: 9,
        striped_table: 45,
        two_columns: 6,
        invoice: 14,
        dark_dashboard: 12,
        dialog: 10,
        widgets: 9,
        gradient_dots: 9,
        lock_screen: 6,
    },
}


def templated(half: str, templates: int, variants: int) -> Iterator[tuple[str, Image.Image]]:
    """Of every kind so many templates, of every template so many distinct pictures, and the kind's name."""
    for draw, values in KINDS[half].items():
        for template in range(templates):
            for says in distinct_values(np.random.default_rng([template, values]), values, variants):
                yield draw.__name__, draw(np.random.default_rng([template, 7]), says)


def distinct_values(rng: np.random.Generator, count: int, variants: int) -> list[Values]:
    """Numbers of three or four digits; all but the first differ from it in one to three digits."""
    first = [int(value) for value in rng.integers(1000, 9500, count)]
    found = [tuple(first)]
    while len(found) < variants:
        changed = list(first)
        for place in rng.choice(count, int(rng.integers(1, 4)), replace=False).tolist():
            digits = list(str(changed[place]))
            digits[int(rng.integers(1, 4))] = str(rng.integers(10))
            changed[place] = int("".join(digits))
        if tuple(changed) not in found:
            found.append(tuple(changed))
    return found
