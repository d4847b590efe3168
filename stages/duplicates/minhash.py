"""A text -> its tokens -> hashes of its n-grams -> MinHash bands, all with numpy and the same on every machine.

A token is a word where a script has spaces, and a character where it has none (Chinese, Japanese, Thai, Lao, Khmer,
Burmese, Tibetan, Yi), so no dictionary decides what a text is made of; a sign is a token too, for in code and formulas
signs are what matters. Texts come in the normal form of stages/filters/text_key.py.

Two sets of n-grams agree in one MinHash with a probability that is their Jaccard similarity j, and in one of b bands of
r hashes with 1 - (1 - j^r)^b. The hashes are of 32 bits, fifteen times as fast as of 64, and as good for sets of less
than a million. No hash here depends on Python's own, whose seed differs from run to run.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np

MOST = 1 << 22  # characters: a longer text would take too much memory here

_SPACELESS = (
    (0x0E00, 0x109F),
    (0x1780, 0x17FF),
    (0x19E0, 0x19FF),
    (0x2E80, 0x312F),
    (0x3190, 0xA4CF),
    (0xF900, 0xFAFF),
)
_BLANK, _LETTER, _ALONE = range(3)  # what a character is
_BLOCK = 512  # n-grams that are hashed at a time


def mixed(values: np.ndarray) -> np.ndarray:
    """uint64 -> uint64: every bit of the result depends on every bit given (the finaliser of SplitMix64)."""
    values = values.astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def tokens(text: str) -> np.ndarray:
    """uint64: a hash of each token, in order."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[np.minimum(codes, 0xFFFF)]
    begins = kinds != _BLANK
    begins[1:] &= (kinds[1:] != _LETTER) | (kinds[:-1] != _LETTER)
    (starts,) = np.nonzero(begins)
    if not len(starts):
        return np.zeros(0, np.uint64)
    inside = np.arange(len(codes)) - starts[np.maximum(np.cumsum(begins) - 1, 0)]
    spelt = np.where(kinds == _BLANK, 0, mixed(codes.astype(np.uint64) << np.uint64(32) | inside.astype(np.uint64)))
    return mixed(np.add.reduceat(spelt, starts))


def ngrams(hashes: np.ndarray, n: int) -> np.ndarray:
    """uint64, sorted, each once: the n-grams of tokens; none where there are fewer than n."""
    count = len(hashes) - n + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    found = np.zeros(count, np.uint64)
    for place, factor in enumerate(_seeds(n) | np.uint64(1)):
        found += hashes[place : place + count] * factor
    return np.unique(mixed(found))


def signature(grams: np.ndarray, number: int) -> np.ndarray:
    """uint32 [number]: the MinHashes of a set of n-grams, which must not be empty."""
    factors, terms = _functions(number)
    values = (grams >> np.uint64(32)).astype(np.uint32)
    least = np.full(number, np.iinfo(np.uint32).max, np.uint32)
    for start in range(0, len(values), _BLOCK):
        hashed = factors * values[start : start + _BLOCK, None] + terms
        np.minimum(least, hashed.min(axis=0), out=least)
    return least


def bands(signatures: np.ndarray, number: int) -> np.ndarray:
    """uint64 [n, number]: hashes of the bands of n signatures, in which a band is another one than the next."""
    found = np.arange(number, dtype=np.uint64)[None, :]
    for column in np.moveaxis(signatures.reshape(len(signatures), number, -1), 2, 0):
        found = mixed(found + column)
    return found


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """The similarity of two sets, each sorted and without repetition: what they share of what they have."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    both = len(left) + len(right) - shared
    return shared / both if both else 1.0


@functools.cache
def _functions(number: int) -> tuple[np.ndarray, np.ndarray]:
    factors, terms = (half.astype(np.uint32) for half in np.split(_seeds(2 * number), 2))
    return factors | np.uint32(1), terms


def _seeds(number: int) -> np.ndarray:
    return mixed(np.arange(1, number + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


@functools.cache
def _kinds() -> np.ndarray:
    """uint8 [65536]: what each character is; those beyond count as the last, which is a sign."""
    found = np.full(1 << 16, _ALONE, np.uint8)
    for code in range(1 << 16):
        character = chr(code)
        if character.isspace():
            found[code] = _BLANK
        elif character.isalnum() or unicodedata.category(character).startswith("M"):
            found[code] = _LETTER
    for first, last in _SPACELESS:
        found[first : last + 1][found[first : last + 1] == _LETTER] = _ALONE
    return found
