"""What is written on made pictures: words, numbers, and matplotlib's fonts."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import matplotlib
import numpy as np
from PIL import ImageFont

Values = tuple[int, ...]
_FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
_WORDS = re.findall(
    r"\w+",
    """account annual balance branch budget capital central change city client cost credit current data date demand
district early east energy export field final first forecast fund general goods growth health home import income index
labour land level local market mean median metal month north number order output paper part people period plan plant
population power price product public quarter rate region report result river road sales school sector series service
share south state station stock street supply table tax total town trade transport unit value volume water week west
year""",
)


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_FONTS / f"{name}.ttf"), size)


def words(rng: np.random.Generator, count: int) -> str:
    return " ".join(rng.choice(_WORDS, count))


def number(value: int) -> str:
    return f"{value / 10:,.1f}"
