"""A drawing as SVG text: boxes, lines and words, in colours that follow the page; the same bytes for the same calls.

Every text is escaped, and what XML can't hold is shown as what it is. Colours are classes, so that a style sheet in the
file gives each its shade on a light and on a dark page; the drawing has a ground of its own, for a page may be neither.
"""

from __future__ import annotations

import re
from html import escape

from schemas.shown import shown

_STYLE = """
svg { color-scheme: light dark; font: 13px system-ui, sans-serif }
.ground { fill: #ffffff } .ink { fill: #22252b } .faint { fill: #5c6370 } .grid { stroke: #dfe2e8 }
.axis { stroke: #8a919e } .first { fill: #2f6fb7 } .second { fill: #d98324 } .limit { stroke: #b3261e }
.title { font-size: 16px; font-weight: 600 } .panel { font-weight: 600 } .small { font-size: 11.5px }
@media (prefers-color-scheme: dark) {
.ground { fill: #14171c } .ink { fill: #e4e7ec } .faint { fill: #a0a8b5 } .grid { stroke: #2b303a }
.axis { stroke: #69707d } .first { fill: #6aa5e8 } .second { fill: #eba45a } .limit { stroke: #ff8a80 }
}
"""
_NO_XML = re.compile("[\ufffe\uffff]")
WIDTH = 860


class Drawing:
    """A drawing of WIDTH pixels that grows downwards."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts: list[str] = []
        self.height = 0.0
        self.text(24, 32, title, "ink title")

    def text(self, x: float, y: float, words: str, kind: str = "ink", anchor: str = "start") -> None:
        """Words with their baseline at y."""
        self._add(y + 12, f'<text x="{_n(x)}" y="{_n(y)}" class="{kind}" text-anchor="{anchor}">{_words(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, words: str = "") -> None:
        """A filled box; `words` show under a pointer."""
        if width <= 0 or height <= 0:
            return
        title = f"<title>{_words(words)}</title>" if words else ""
        place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        self._add(y + height, f'<rect {place} class="{kind}">{title}</rect>')

    def line(self, x: float, y: float, to_x: float, to_y: float, kind: str, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        place = f'x1="{_n(x)}" y1="{_n(y)}" x2="{_n(to_x)}" y2="{_n(to_y)}"'
        self._add(max(y, to_y), f'<line {place} class="{kind}"{dash}/>')

    def svg(self) -> str:
        """The whole file."""
        height = round(self.height) + 12
        size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{_words(self._title)}</title>'
        ground = f'<rect width="{WIDTH}" height="{height}" class="ground"/>'
        return "\n".join([head, f"<style>{_STYLE}</style>", ground, *self._parts, "</svg>", ""])

    def _add(self, bottom: float, part: str) -> None:
        self.height = max(self.height, bottom)
        self._parts.append(part)


def _words(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", shown(text)))


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
