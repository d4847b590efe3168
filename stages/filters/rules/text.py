"""What is measured of one text: numbers alone, each by expressions that run in C and in linear time.

None: the text is too short, or of another kind, to tell; no rule holds that against it. Repetition and compression look
at the first MOST characters, so that a text of any length takes bounded memory.
"""

from __future__ import annotations

import re
import zlib

MOST = 1_000_000
WORDS = 5  # of an n-gram

# Scripts without blanks between words: there each character counts as one
_SINGLE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_SINGLE}]|[^\\s{_SINGLE}]+")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"'）」】]+", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd-\uffff]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]")
_END = re.compile("[。．！？!?\n]+")
_ASCII = re.compile("[ -~]+")

# UTF-8 that was read as Latin-1 or Windows-1252: a leading byte, and what such a reader makes of one that follows
_NEXT = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(
    "|".join(
        (
            "Ã[\x80-\xba\xbc-\xbf€‚ƒ„†‡ˆ‰Š‹ŒŽ‘“•˜™š›œžŸ]",  # é, ü; not before what closes a quotation
            r"(?<![^\W\d_])Â[\xa0-\xbf]",  # °, £, a blank that does not break
            "â€",  # quotation marks and dashes
            f"(?:[ÐÑ][{_NEXT}]){{2,}}",  # Cyrillic
            f"(?:[à-ï][{_NEXT}]{{2}}){{2,}}",  # Chinese, Japanese, Korean, Thai ...
            f"ð[\x9fŸ][{_NEXT}]{{2}}",  # pictographs
            "ï¿½|ï»¿",
            r"[縺繧繝]\S?[縺繧繝]",  # Japanese read as Shift-JIS
        )
    )
)


def repeated_lines(text: str) -> float | None:
    """Share of the lines with text that stood before."""
    lines = [line for piece in text[:MOST].split("\n") if (line := piece.strip())]
    return 1 - len(set(lines)) / len(lines) if lines else None


def repeated_words(text: str) -> float | None:
    """Share of runs of five words that stood before; a character of Japanese, Chinese or Thai is a word."""
    words = _WORD.findall(text[:MOST])
    runs = len(words) - WORDS + 1
    if runs < 1:
        return None
    return 1 - len(set(zip(*(words[n:] for n in range(WORDS)), strict=False))) / runs


def compression(text: str) -> float | None:
    """Bytes of UTF-8 after zlib's strongest compression, as a share of those before. Short text is above 1."""
    data = text[:MOST].encode("utf-8", "replace")
    return len(zlib.compress(data, 9)) / len(data) if data else None


def url_share(text: str) -> float | None:
    """Share of the characters that stand in URLs."""
    return sum(map(len, _URL.findall(text))) / len(text) if text else None


def control_characters(text: str) -> int:
    """Control characters, but for tab, line and page breaks; and what replaces a character that could not be read."""
    return len(_CONTROL.findall(text))


def mojibake(text: str) -> int:
    """Places that look like text read in a wrong encoding."""
    return 0 if text.isascii() else len(_MOJIBAKE.findall(text))


def is_japanese(text: str) -> bool:
    """Whether there is kana in it; a Japanese text of kanji alone can't be told from a Chinese one here."""
    return not text.isascii() and _KANA.search(text) is not None


def kana_lines(text: str) -> float | None:
    """Of a Japanese text: the share of lines with text that have kana."""
    if not is_japanese(text):
        return None
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    return sum(_KANA.search(line) is not None for line in lines) / len(lines)


def sentence_characters(text: str) -> float | None:
    """Of a Japanese text: the mean length of its sentences, lines counting as such."""
    if not is_japanese(text):
        return None
    sentences = [sentence for piece in _END.split(text) if (sentence := piece.strip())]
    return sum(map(len, sentences)) / len(sentences)


def ascii_run(text: str) -> int | None:
    """Of a Japanese text: the longest run of ASCII on a line."""
    return max(map(len, _ASCII.findall(text)), default=0) if is_japanese(text) else None
