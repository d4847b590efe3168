"""Which languages the letters of a text allow, before any model is asked.

A script of one language decides: kana is Japanese, Hangul Korean, Thai Thai. A script of several (Cyrillic, Arabic,
Devanagari, Latin) limits the answer to its languages. Han characters alone are Chinese or Japanese: those that only one
of the two writes tell, known from the character sets of both (JIS X 0208; GB 2312 and Big5): 図 and 気 are Japanese
alone, 图 and 气 Chinese. Characters that both have decide nothing, but some words are common in one alone (是, 的, 了).
"""

from __future__ import annotations

import bisect
import functools
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

# First character of a range, last, its script; in order
_RANGES = (
    (0x0041, 0x024F, "Latin"),
    (0x0250, 0x02FF, "Latin"),
    (0x0370, 0x03FF, "Greek"),
    (0x0400, 0x052F, "Cyrillic"),
    (0x0530, 0x058F, "Armenian"),
    (0x0590, 0x05FF, "Hebrew"),
    (0x0600, 0x06FF, "Arabic"),
    (0x0750, 0x077F, "Arabic"),
    (0x0780, 0x07BF, "Thaana"),
    (0x08A0, 0x08FF, "Arabic"),
    (0x0900, 0x097F, "Devanagari"),
    (0x0980, 0x09FF, "Bengali"),
    (0x0A00, 0x0A7F, "Gurmukhi"),
    (0x0A80, 0x0AFF, "Gujarati"),
    (0x0B00, 0x0B7F, "Oriya"),
    (0x0B80, 0x0BFF, "Tamil"),
    (0x0C00, 0x0C7F, "Telugu"),
    (0x0C80, 0x0CFF, "Kannada"),
    (0x0D00, 0x0D7F, "Malayalam"),
    (0x0D80, 0x0DFF, "Sinhala"),
    (0x0E00, 0x0E7F, "Thai"),
    (0x0E80, 0x0EFF, "Lao"),
    (0x0F00, 0x0FFF, "Tibetan"),
    (0x1000, 0x109F, "Burmese"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x139F, "Ethiopic"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1C80, 0x1C8F, "Cyrillic"),
    (0x1C90, 0x1CBF, "Georgian"),
    (0x1E00, 0x1EFF, "Latin"),
    (0x1F00, 0x1FFF, "Greek"),
    (0x3041, 0x30FA, "Kana"),
    (0x30FD, 0x30FF, "Kana"),
    (0x3105, 0x312F, "Bopomofo"),
    (0x3131, 0x318E, "Hangul"),
    (0x31F0, 0x31FF, "Kana"),
    (0x3400, 0x4DBF, "Han"),
    (0x4E00, 0x9FFF, "Han"),
    (0xAC00, 0xD7A3, "Hangul"),
    (0xF900, 0xFAFF, "Han"),
    (0xFB50, 0xFDFF, "Arabic"),
    (0xFE70, 0xFEFF, "Arabic"),
    (0xFF21, 0xFF5A, "Latin"),
    (0xFF66, 0xFF9D, "Kana"),
    (0x20000, 0x323AF, "Han"),
)
_STARTS = [first for first, _, _ in _RANGES]

_CYRILLIC = "ru uk bg sr mk be kk ky mn tg tt ba cv os ce av kv mhr mrj myv sah tyv xal krc lez rue bxr uz"
# Languages that the model knows, by the script in which they are written; Latin has all others.
LANGUAGES: dict[str, tuple[str, ...]] = {
    "Arabic": ("ar", "fa", "ur", "arz", "ps", "ckb", "ug", "pnb", "sd", "azb", "mzn", "lrc"),
    "Armenian": ("hy",),
    "Bengali": ("bn", "as", "bpy"),
    "Bopomofo": ("zh",),
    "Burmese": ("my",),
    "Cyrillic": tuple(_CYRILLIC.split()),
    "Devanagari": ("hi", "mr", "ne", "sa", "mai", "bh", "gom", "new", "dty"),
    "Ethiopic": ("am",),
    "Georgian": ("ka", "xmf"),
    "Greek": ("el",),
    "Gujarati": ("gu",),
    "Gurmukhi": ("pa",),
    "Hangul": ("ko",),
    "Hebrew": ("he", "yi"),
    "Kana": ("ja",),
    "Kannada": ("kn",),
    "Khmer": ("km",),
    "Lao": ("lo",),
    "Malayalam": ("ml",),
    "Oriya": ("or",),
    "Sinhala": ("si",),
    "Tamil": ("ta",),
    "Telugu": ("te",),
    "Thaana": ("dv",),
    "Thai": ("th",),
    "Tibetan": ("bo",),
}
# A letter of these says as much as four of an alphabet: "PyTorchで学習する" is Japanese.
_DENSE = {"Han": 4, "Kana": 4, "Hangul": 4}
_FEW_KANA = 0.1  # of kana and Han: a Chinese text may quote a Japanese name


class Letters(NamedTuple):
    """The letters of a text: how many, in which script most of it is, and the share that this script has of it."""

    number: int
    script: str
    share: float
    characters: Mapping[str, int]


def letters(text: str) -> Letters:
    """What a text is written in; script "" where it has no letters, "Other" for one that isn't known here."""
    characters = Counter(text)
    number, weights = 0, Counter[str]()
    for character, times in characters.items():
        script = _script(character)
        if script:
            number += times
            weights[script] += times * _DENSE.get(script, 1)
    if not number:
        return Letters(0, "", 0.0, characters)
    kana = weights["Kana"]
    if kana > _FEW_KANA * (kana + weights["Han"]):
        weights["Kana"] += weights.pop("Han", 0)
    elif kana:
        weights["Han"] += weights.pop("Kana")
    script = max(sorted(weights), key=weights.__getitem__)
    return Letters(number, script, weights[script] / weights.total(), characters)


@functools.lru_cache(maxsize=100_000)
def _script(character: str) -> str:
    """The script of a letter; "" for what is none."""
    if not character.isalpha():
        return ""
    code = ord(character)
    place = bisect.bisect(_STARTS, code) - 1
    first, last, script = _RANGES[max(place, 0)]
    return script if first <= code <= last else "Other"
