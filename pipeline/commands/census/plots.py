"""A census as drawings: how long rows are, and where the tokens come from, by source and by language."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from unicodedata import east_asian_width

from pipeline.commands.census.found import Found
from pipeline.commands.census.lengths import bins
from pipeline.commands.census.svg import WIDTH, Drawing
from pipeline.commands.census.tables import short
from schemas.shown import shown
from stages.census import Amount, Place

_LEFT, _RIGHT = 76, WIDTH - 40
_PANEL = 150  # pixels of a histogram's height
_BAR, _STEP = 16, 24
_NAMES = 230  # pixels for the names of bars
_MOST = 30  # bars of a panel; the others are one
_LETTERS = 26  # of a name


def plots(found: Sequence[Found]) -> dict[str, str]:
    """File name -> SVG; no lengths where none were counted, and no languages where none is known."""
    drawn = {"sources.svg": _tokens(found, "Tokens by source", lambda place: place.source)}
    if any(place.language for one in found for place in one.tally.groups):
        drawn["languages.svg"] = _tokens(found, "Tokens by language", lambda place: place.language or "not said")
    if any(one.tally.lengths for one in found):
        drawn["lengths.svg"] = _lengths(found)
    return drawn


def _lengths(found: Sequence[Found]) -> str:
    """A histogram for each recipe over one logarithmic axis."""
    drawing, top = Drawing("Tokens per row"), 60.0
    held = [bins(one.tally.lengths) for one in found]
    low = math.log2(min(one[0][0] for one in held if one))
    high = math.log2(max(max(one[-1][1] for one in held if one), *(one.max_tokens for one in found)))

    def x(tokens: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (math.log2(tokens) - low) / max(high - low, 1e-9)

    for one, mine in zip(found, held, strict=True):
        _histogram(drawing, one, mine, top, x)
        top += _PANEL + 66
    drawing.text((_LEFT + _RIGHT) / 2, top - 8, "tokens of a row, text and image (log scale)", "faint", "middle")
    return drawing.svg()


def _histogram(
    drawing: Drawing,
    found: Found,
    held: Sequence[tuple[int, int, int]],
    top: float,
    x: Callable[[float], float],
) -> None:
    bottom, most = top + 20 + _PANEL, max((rows for *_, rows in held), default=1)
    drawing.text(_LEFT, top, _cut(found.name, 60), "ink panel")
    drawing.text(_RIGHT, top, f"{short(found.tally.kept['rows'])} rows, four bins to a doubling", "faint small", "end")
    ticks = _ticks(most)
    for tick in ticks:
        y = bottom - _PANEL * tick / ticks[-1]
        drawing.line(_LEFT, y, _RIGHT, y, "axis" if tick == 0 else "grid")
        drawing.text(_LEFT - 8, y + 4, short(tick), "faint small", "end")
    for start, end, rows in held:
        high = _PANEL * rows / ticks[-1]
        what = f"{start:,} to {end - 1:,} tokens: {rows:,} rows"
        drawing.box(x(start) + 0.5, bottom - high, x(end) - x(start) - 1, high, "first", what)
    for power in range(32):
        if _LEFT - 0.5 <= (at := x(2.0**power)) <= _RIGHT + 0.5:
            drawing.line(at, bottom, at, bottom + 4, "axis")
            drawing.text(at, bottom + 18, f"{2**power:,}", "faint small", "middle")
    limit = x(found.max_tokens)
    drawing.line(limit, top + 12, limit, bottom, "limit", dashed=True)
    drawing.text(limit - 5, top + 22, f"max_tokens {found.max_tokens:,}", "faint small", "end")


def _tokens(found: Sequence[Found], title: str, by: Callable[[Place], str]) -> str:
    """Stacked bars for each recipe over one axis: text and image tokens."""
    drawing, top = Drawing(title), 92.0
    _legend(drawing)
    held = [_bars(one, by) for one in found]
    ticks = _ticks(max((amount["num_tokens"] for bars in held for _, amount in bars), default=1))
    for one, bars in zip(found, held, strict=True):
        drawing.text(24, top, _cut(one.name, 60), "ink panel")
        drawing.text(_RIGHT, top, f"{short(one.tally.kept['num_tokens'])} tokens", "faint small", "end")
        top = _stacks(drawing, bars, ticks, top + 14) + 48
    drawing.text((_NAMES + _RIGHT) / 2, top - 12, "tokens of kept samples, once through the data", "faint", "middle")
    return drawing.svg()


def _legend(drawing: Drawing) -> None:
    for x, kind, words in ((24, "first", "text tokens"), (130, "second", "image tokens")):
        drawing.box(x, 50, 12, 12, kind)
        drawing.text(x + 18, 61, words, "ink")


def _bars(found: Found, by: Callable[[Place], str]) -> list[tuple[str, Amount]]:
    """The largest first; what is left is one."""
    sums: dict[str, Amount] = {}
    for place, group in found.tally.groups.items():
        sums.setdefault(by(place), Amount()).update(group.kept)
    held = [item for item in sums.items() if item[1]["num_tokens"]]
    bars = sorted(held, key=lambda item: (-item[1]["num_tokens"], item[0]))
    if len(bars) <= _MOST:
        return bars
    rest = sum((amount for _, amount in bars[_MOST - 1 :]), Amount())
    return [*bars[: _MOST - 1], (f"{len(bars) - _MOST + 1} more", rest)]


def _stacks(drawing: Drawing, bars: Sequence[tuple[str, Amount]], ticks: Sequence[int], top: float) -> float:
    """Draw bars from `top` on; where they end."""
    bottom, room = top + _STEP * len(bars), _RIGHT - 70 - _NAMES
    for tick in ticks:
        at = _NAMES + room * tick / ticks[-1]
        drawing.line(at, top - 4, at, bottom, "axis" if tick == 0 else "grid")
        drawing.text(at, bottom + 16, short(tick), "faint small", "middle")
    for number, (name, amount) in enumerate(bars):
        y, x = top + _STEP * number, float(_NAMES)
        drawing.text(_NAMES - 10, y + _BAR - 3, _cut(name, _LETTERS), "ink", "end")
        for kind, column, word in (("first", "num_text_tokens", "text"), ("second", "num_image_tokens", "image")):
            width = room * amount[column] / ticks[-1]
            drawing.box(x, y, width, _BAR, kind, f"{name}: {amount[column]:,} {word} tokens")
            x += width
        drawing.text(x + 7, y + _BAR - 3, short(amount["num_tokens"]), "faint small")
    return bottom


def _ticks(most: int) -> list[int]:
    """0 and some round numbers, the last of them at least `most`."""
    rough = max(most, 1) / 4
    size = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    step = next(size * by for by in (1, 2, 2.5, 5, 10) if size * by >= rough and size * by == int(size * by))
    return [int(step * number) for number in range(math.ceil(most / step) + 1)] or [0, 1]


def _cut(text: str, letters: int) -> str:
    """A text that takes at most the room of so many letters; those of East Asia are two wide."""
    text, room = shown(text), float(letters)
    for at, letter in enumerate(text):
        room -= 2 if east_asian_width(letter) in "WF" else 1
        if room < 0:
            return text[: at - 1] + "…"
    return text
