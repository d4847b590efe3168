"""The language of one text: fastText's lid.176 on its prose, within what its letters allow (stages/filters/scripts.py).

A script of one language decides alone, for the shortest text too. Han characters without kana are decided by those that
only Japanese or only Chinese has, and by what the source declares where there are none: the quantised model takes one
in eight short Chinese sentences for Japanese. Everything else is the model's answer among the languages of the script,
with an ear for their small words where the text is short (stages/filters/function_words.py).
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from stages.filters.function_words import LONGEST, heard
from stages.filters.prose import prose
from stages.filters.scripts import LANGUAGES, letters

UNDETERMINED = "und"

_ANSWERS = 12  # of the model, best first
_LATIN = re.compile("[A-Za-z]+")
_LATIN_TOO = frozenset({"sr", "uz"})
_ELSEWHERE = frozenset(language for languages in LANGUAGES.values() for language in languages) - _LATIN_TOO
NEVER_ANSWERED = frozenset({"wuu", "yue"})  # Chinese in Han characters is zh
_HEARD, _MOST_HEARD = 3.0, 3  # how much likelier a language is by each of its words, up to so many

_HAN_NAMES = {"ja": "ja", "jp": "ja", "jpn": "ja", "japanese": "ja"} | dict.fromkeys(
    ("zh", "cn", "tw", "zho", "chi", "cmn", "chinese", "mandarin", "simplified", "traditional"), "zh"
)
_DOUBT = 0.75  # beside what speaks for a language: one character of it alone makes 0.57, two make 0.73
# Characters of JIS's second level that Japanese uses every day (joyo since 2010)
_EVERYDAY = frozenset("彙傲哺喩嗅嘲毀恣惧慄憬拉摯曖楷鬱璧瘍籠緻羞訃諧貪踪辣錮椅瑠璃瞳弄勃")
# Written with characters of both, and of Chinese alone; last its comma
_CHINESE_WORDS = re.compile("無法|可以|尚未|以及|是否|其中|所以|不是|如果|只有|\uff0c")
_CHINESE_WORD = 0.5


class Found(NamedTuple):
    """What is known of a text. `confidence`: from 0 to 1; `characters`: letters of its prose; `by_script`: its letters
    alone decide, so that it may be short."""

    language: str
    confidence: float
    characters: int
    by_script: bool


def detect(text: str, model: Any, declared: str | None = None) -> Found:
    """The language of a text; "und" where it has no letters, or Han alone that both languages have."""
    return detect_prose(prose(text), model, declared)


def detect_prose(line: str, model: Any, declared: str | None = None) -> Found:
    """The same of text that is prose already, on one line."""
    seen = letters(line)
    if not seen.number:
        return Found(UNDETERMINED, 0.0, 0, False)
    if seen.script == "Han":
        ja, zh = _han(seen.characters)
        zh += _CHINESE_WORD * len(_CHINESE_WORDS.findall(line))
        if ja != zh:
            confidence = seen.share * max(ja, zh) / (ja + zh + _DOUBT)
            return Found("ja" if ja > zh else "zh", round(confidence, 4), seen.number, max(ja, zh) >= 1)
        if declared in ("ja", "zh"):
            return Found(declared, round(seen.share, 4), seen.number, True)
        return Found(UNDETERMINED, 0.0, seen.number, False)
    languages = LANGUAGES.get(seen.script, ())
    if not languages and seen.script != "Latin":
        return Found(UNDETERMINED, 0.0, seen.number, False)
    if len(languages) == 1:
        return Found(languages[0], round(seen.share, 4), seen.number, True)
    if seen.script != "Latin" and seen.share < 1:
        line = _LATIN.sub(" ", line)
    language, confidence = _asked(line, languages, model)
    return Found(language, confidence, seen.number, False)


def declared_code(declared: str | None) -> str | None:
    """What a source says ("zh_simplified", "Japanese", "ja-JP") as the code of one of the two that write Han."""
    said = re.split("[-_ ]", (declared or "").lower())[0]
    return _HAN_NAMES.get(said)


def _asked(line: str, languages: tuple[str, ...], model: Any) -> tuple[str, float]:
    """The model's answer among some languages; none named: all that are written in Latin letters."""
    line = line.lower()
    labels, scores = model.predict(line, k=_ANSWERS)
    words = heard(line) if len(line) <= LONGEST else {}
    found, rest = dict[str, float](), max(0.0, 1.0 - sum(scores))
    for label, score in zip(labels, scores, strict=True):
        language = label.removeprefix("__label__")
        if language in languages if languages else language not in _ELSEWHERE:
            found[language] = min(float(score), 1.0) * _HEARD ** min(words.get(language, 0), _MOST_HEARD)
    if not found:
        return UNDETERMINED, 0.0
    best = max(found, key=found.__getitem__)
    return best, round(found[best] / (sum(found.values()) + rest), 4)


def _han(characters: Any) -> tuple[float, float]:
    """How much of a text's Han speaks for Japanese, and how much for Chinese."""
    told = [(number, _speaks(character)) for character, number in characters.items() if character > "\u33ff"]
    return sum(n * says for n, says in told if says > 0), -sum(n * says for n, says in told if says < 0)


@functools.lru_cache(maxsize=100_000)
def _speaks(character: str) -> float:
    """1: of Japanese alone, -1: of Chinese alone, -0.5: rare in Japanese, -0.25: rarer there, 0: it doesn't say."""
    jis, chinese = _encoded(character, "euc_jp"), _encoded(character, "gb2312") or _encoded(character, "big5")
    if len(jis) != 2:  # three bytes are JIS X 0212, which nobody writes
        return -1.0 if chinese else 0.0
    if not chinese:
        return 1.0
    rare = jis[0] >= 0xD0 and character not in _EVERYDAY  # JIS's second level begins at 0xD0
    return -0.5 if rare or character in "是也們" else -0.25 if character in "此或但於" else 0.0


def _encoded(character: str, encoding: str) -> bytes:
    try:
        return character.encode(encoding)
    except UnicodeEncodeError:
        return b""
