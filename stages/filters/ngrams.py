"""Text as n-grams: runs of words, or of characters where a script has no spaces, each as one 64-bit hash.

Case, punctuation, white space, the width of characters, thousands commas and marks such as `<image 1>` make no
difference. A word weighs 2; a character of Japanese, Chinese, Thai, Lao, Khmer or Burmese weighs 1, for about two of
them say what a word says. An n-gram begins at any token and ends with the first that makes it weigh 2n: 8 words, or 16
characters, or some of both. So texts of all scripts are compared by one rule, and nobody has to tell their language.

Hashes are the first 64 bits of BLAKE2b: the same on every machine, and not to be turned back into words.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

# Thai to Tibetan, Burmese, Khmer, kana, Bopomofo, Han
_DENSE = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf"
_DENSE += "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_MARKS = "".join(c for c in map(chr, range(0x0300, 0x1D00)) if unicodedata.category(c) in ("Mn", "Mc"))
_TOKEN = re.compile(rf"(?=\w)[{_DENSE}]|[^\W_{_DENSE}]+(?:[{_MARKS}]+[^\W_{_DENSE}]*)*")
_ONE_DENSE = re.compile(f"[{_DENSE}]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_IMAGE_MARK = re.compile(r"<image ?\d*>")


class Tokens(NamedTuple):
    """The tokens of a text; `weight[k]` is what all before token k weigh."""

    words: list[str]
    weight: np.ndarray

    @property
    def size(self) -> float:
        """How much text it is, in words."""
        return int(self.weight[-1]) / 2


class Grams(NamedTuple):
    """The n-grams of a text in order: the tokens [start, end) of each, and its hash."""

    start: np.ndarray
    end: np.ndarray
    hashes: np.ndarray


def tokens(text: str) -> Tokens:
    """A text's words and dense characters, in the form in which they are compared."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = _TOKEN.findall(_THOUSANDS.sub("", _IMAGE_MARK.sub(" ", plain)))
    weights = [1 if len(word) == 1 and _ONE_DENSE.match(word) else 2 for word in words]
    return Tokens(words, np.concatenate([[0], np.cumsum(weights, dtype=np.int64)]).astype(np.int64))


def grams(found: Tokens, n: int) -> Grams:
    """Every n-gram, one from each token that has enough behind it."""
    ends = np.searchsorted(found.weight, found.weight[:-1] + 2 * n)
    start = np.flatnonzero(ends <= len(found.words))
    end = ends[start]
    data = " ".join(found.words).encode("utf-8", "surrogatepass")
    lengths = [len(word.encode("utf-8", "surrogatepass")) + 1 for word in found.words]
    place = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    spans = zip(place[start].tolist(), (place[end] - 1).tolist(), strict=True)
    digests = b"".join([blake2b(data[a:b], digest_size=8).digest() for a, b in spans])
    return Grams(start, end, np.frombuffer(digests, "<u8").astype(np.uint64))


def has_digit(word: str) -> bool:
    """Whether a token is, or holds, a number."""
    return any(character.isdigit() for character in word)
