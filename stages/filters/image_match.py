"""Which images look alike: candidates by Hamming distance of 64-bit pHashes, judged by what ingest kept of the pixels.

A pHash alone merges charts that differ only in their numbers (of 200 bar charts from one template, a third of all pairs
lie within distance 4). So a candidate is judged, from its signature alone:

  OTHER  what is left over after the crop and the light between the two are fitted is too much for one picture; or they
         are drawn (charts, tables, pages, windows) and many cells of `detail` are equal to the last bit while some are
         far from it: one file was made from the other's template. No re-encoding leaves that. Or they are of one size,
         in place, and have too little detail in common: another text in the same layout
  LOOK   they are the same as far as 32 x 32 pixels tell, whatever a digit says. It is seen in the files only:
         stages/filters/same_picture.py. Where the files are out of reach (`same_unseen`) others than drawn ones count
         as the same, and in drawn pictures no pixel may differ by more than 18 levels, wherever it lies: re-encoded
         and resized copies of them are found, crops are not
  SAME   only where the recipe says that pictures are photographs (`Match.mark`), and none of the two is drawn: next to
         nothing is left over, they were saved again or resized

A picture with much of one luminance counts as drawn, and never has a mark. That tells charts and pages; a window on a
wallpaper is none by that measure, so without the recipe's word nothing may differ anywhere.

Thresholds were chosen on the tuning half of benchmarks/pictures.py; its tables are measured on the other half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from schemas.sample import DETAIL_SIDE, GREY_SIDE
from stages.filters import image_align
from stages.filters.crop_hashes import inner_hashes
from stages.filters.near_hashes import crossing
from stages.images.hashes import DRAWN

Array = np.ndarray
OTHER, LOOK, SAME = 0, 1, 2

_PAIRS = 1 << 13  # signatures that are compared at a time: 16 MiB on each side
_FITTED = 1 << 10  # of these, as many are laid over each other at a time: 60 MiB
_EQUAL = 0.2  # of the cells that show anything, in two files of which one was made from the other's template
_TOUCHED, _SPREAD, _CHANGED = 4, 96, 600  # a cell is changed beyond the first + the second x most, or + the third
_FAINT = 8.0  # levels of contrast: fainter pictures count as having so much
_ALIKE = 0.05  # left over, as a part of the picture's contrast, that needs no fitting of the place
_SURE, _LEFT, _LEFT_DRAWN = 0.03, 0.25, 0.5  # up to which it is the same photograph; beyond which it is another picture
_COMMON = 0.9  # of the detail of one size: the correlation below which it is another text
_LEVELS = 18  # by which no pixel of 32 x 32 may differ in drawn pictures whose files nobody looks at
_ROUNDS = 5


@dataclass(frozen=True)
class Match:
    """When two images count as the same picture: pHash distance in bits (0-64); in files, the difference allowed
    anywhere in units of the noise between the two (from 0; see same_picture.py); and the share of a photograph that may
    differ altogether (0-0.2). A logo or a date takes 0.01 to 0.03; so does a number in a window on a wallpaper."""

    radius: int = 10
    leeway: float = 2.5
    mark: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("radius", 64), ("leeway", 100), ("mark", 0.2)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie in 0..{most}, got {getattr(self, name)}")


class Pictures(NamedTuple):
    """Of n images uint64 [n] phash, uint8 [n, 1024] grey, int16 [n, 484] detail, uint8 [n] plain, int32 [n, 2] size."""

    phash: Array
    grey: Array
    detail: Array
    plain: Array
    size: Array

    @classmethod
    def of(cls, infos: Sequence[dict[str, object]]) -> Pictures:
        def pixels(name: str, kind: str, side: int) -> Array:
            data = b"".join(info[name] for info in infos)  # type: ignore[misc]
            return np.frombuffer(data, kind).reshape(len(infos), side * side)

        return cls(
            np.array([info["phash"] for info in infos], np.uint64),
            pixels("grey", "u1", GREY_SIDE),
            pixels("detail", "<i2", DETAIL_SIDE),
            np.array([info["plain"] for info in infos], np.uint8),
            np.array([(info["width"], info["height"]) for info in infos], np.int32).reshape(len(infos), 2),
        )

    def take(self, rows: Array | slice) -> Pictures:
        return Pictures(*(column[rows] for column in self))


def judged(left: Pictures, right: Pictures, match: Match) -> tuple[Array, Array]:
    """Of n pairs: OTHER, SAME or LOOK (int8), and what is left over as a part of the contrast (float32)."""
    verdict, rest = np.zeros(len(left.phash), np.int8), np.zeros(len(left.phash), np.float32)
    for start in range(0, len(verdict), _PAIRS):
        some = slice(start, start + _PAIRS)
        verdict[some], rest[some] = _judged(left.take(some), right.take(some), match)
    return verdict, rest


def _judged(left: Pictures, right: Pictures, match: Match) -> tuple[Array, Array]:
    drawn = _drawn(left, right)
    rest = np.ones(len(drawn), np.float32)
    open_ = np.flatnonzero(~(drawn & _edited(left.detail, right.detail)))
    for start in range(0, len(open_), _FITTED):
        rows = open_[start : start + _FITTED]
        rest[rows], moved = left_over(left.grey[rows], right.grey[rows])
        rest[rows[drawn[rows] & ~moved & _rewritten(left.take(rows), right.take(rows))]] = 1
    near = np.where((rest <= _SURE) & ~drawn & (match.mark > 0), SAME, LOOK)
    return np.where(rest <= np.where(drawn, _LEFT_DRAWN, _LEFT), near, OTHER).astype(np.int8), rest


def _edited(left: Array, right: Array) -> Array:
    """bool [n]: of the cells that show anything many are equal to the last bit, and some differ far more than most."""
    apart = np.abs((left - right).astype(np.int32))
    shown = (left != 0) | (right != 0)
    count = np.maximum(shown.sum(1), 1)
    equal = (shown & (apart == 0)).sum(1) >= _EQUAL * count
    ranked = np.sort(np.where(shown, apart, -1), axis=1)  # cells that show nothing come first
    most = ranked[np.arange(len(ranked)), ranked.shape[1] - 1 - count // 5]
    return np.asarray(equal & (ranked[:, -1] > _TOUCHED + np.minimum(_SPREAD * np.maximum(most, 0), _CHANGED)))


def _rewritten(left: Pictures, right: Pictures) -> Array:
    """bool [n]: of one size, and their details have too little in common for one picture: a page of other text."""
    a, b = left.detail.astype(np.float32), right.detail.astype(np.float32)
    common = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1) + 1)
    shown = np.maximum((a * a).sum(1), (b * b).sum(1)) > 0
    return np.asarray(shown & (common < _COMMON) & (left.size == right.size).all(1))


def left_over(left: Array, right: Array) -> tuple[Array, Array]:
    """Of uint8 [n, 1024] luminances, the difference that no crop and no light explains (RMS), as a part of the contrast
    (float32, at most 1); and whether a crop explains half of it (bool). It does not matter which is left."""
    a, b = _ordered(left, right)
    a, b = _soft(a), _soft(b)
    contrast = np.maximum(np.minimum(a.std((1, 2)), b.std((1, 2))), _FAINT)
    still = _unexplained(a, b, _light(a, b)) / contrast
    found = still.copy()
    far = np.flatnonzero((found > _ALIKE) & (found < 1))
    if len(far):
        fit = image_align.fitted(a[far], b[far], _light(a[far], b[far]), _ROUNDS)
        fitted = np.where(image_align.is_crop(fit), _unexplained(a[far], b[far], fit) / contrast[far], 1)
        found[far] = np.minimum(found[far], fitted)
    return np.minimum(found, 1).round(3).astype(np.float32), found < still / 2  # beyond, machines differ


def _unexplained(a: Array, b: Array, fit: image_align.Fit) -> Array:
    rest, inside = image_align.left_over(a, b, fit)
    return np.asarray(np.sqrt((rest * rest).sum((1, 2)) / np.maximum(inside.sum((1, 2)), 1)))


def _light(a: Array, b: Array) -> image_align.Fit:
    """Nothing moved; the gain and offset that least squares give."""
    fit = image_align.start(len(a))
    mean_a, mean_b = a.mean((1, 2)), b.mean((1, 2))
    off = a - mean_a[:, None, None]
    gain = ((off * (b - mean_b[:, None, None])).mean((1, 2)) + 1) / ((off * off).mean((1, 2)) + 1)  # of nothing: 1
    return fit._replace(light=image_align.light(gain, mean_b - np.clip(gain, *image_align.GAIN) * mean_a))


def _ordered(left: Array, right: Array) -> tuple[Array, Array]:
    """Each pair in an order of its own, whichever came as left: where they first differ, the darker one first."""
    first = (left != right).argmax(1)
    rows = np.arange(len(left))
    swap = (left[rows, first] > right[rows, first])[:, None]
    return np.where(swap, right, left), np.where(swap, left, right)


def _soft(grey: Array) -> Array:
    """float32 [n, 32, 32], each pixel with a half of its neighbours, so that parts of a pixel can be moved."""
    return image_align.softened(grey.reshape(-1, GREY_SIDE, GREY_SIDE).astype(np.float32))


def distinct(positions: Sequence[Pictures]) -> tuple[Array, Array]:
    """Rows that look exactly the same in every position: (the first row of each look, the look of each row)."""
    looks: dict[tuple[bytes, ...], int] = {}
    firsts: list[int] = []
    which = np.zeros(len(positions[0].phash), np.int64)
    for row in range(len(which)):
        key = tuple(part[row].tobytes() for pictures in positions for part in pictures)
        which[row] = looks.setdefault(key, len(firsts))
        if which[row] == len(firsts):
            firsts.append(row)
    return np.array(firsts, np.int64), which


def apart(left: Pictures, right: Pictures) -> Array:
    """uint8 [n]: the Hamming distances of n pictures to n others, or to their middles, whichever is nearest."""
    whole = np.bitwise_count(left.phash ^ right.phash)
    cropped = (
        np.bitwise_count(inner_hashes(left.grey) ^ right.phash),
        np.bitwise_count(left.phash ^ inner_hashes(right.grey)),
    )
    return np.asarray(np.minimum(whole, np.minimum(*cropped)))


def _largest_difference(a: Array, b: Array) -> Array:
    # |a - b| without leaving uint8: max - min
    return np.asarray((np.maximum(a, b) - np.minimum(a, b)).max(axis=1, initial=0))


def near(left: Pictures, right: Pictures, radius: int) -> Iterator[tuple[Array, Array]]:
    """(i, j) of all left[i] and right[j] at most `radius` apart, lot by lot; each pair once. None is missed."""
    hashes = [(left.phash, right.phash)]
    hashes += [(inner_hashes(left.grey), right.phash), (left.phash, inner_hashes(right.grey))]
    for number, (a, b) in enumerate(hashes):
        for i, j in crossing(a, b, radius):
            new = np.ones(len(i), bool)
            for c, d in hashes[:number]:
                new &= np.bitwise_count(c[i] ^ d[j]) > radius
            yield i[new], j[new]


def same_unseen(left: Pictures, right: Pictures) -> Array:
    """bool [n]: of pairs that are to be looked at, those that count as the same where nobody can."""
    return ~_drawn(left, right) | (_largest_difference(left.grey, right.grey) <= _LEVELS)


def _drawn(left: Pictures, right: Pictures) -> Array:
    return np.asarray(np.minimum(left.plain, right.plain) >= DRAWN)


class Lot(NamedTuple):
    """Pairs: rows of the left and the right, OTHER, LOOK or SAME, the distance in bits, and how little they differ:
    the distance, and as a fraction what is left over."""

    left: Array
    right: Array
    verdict: Array
    distance: Array
    apart: Array

    def of(self, verdict: int) -> Lot:
        return self.where(self.verdict == verdict)

    def where(self, chosen: Array) -> Lot:
        return Lot(*(column[chosen] for column in self))


def compared(left: Sequence[Pictures], right: Sequence[Pictures], match: Match) -> Iterator[Lot]:
    """All pairs of rows whose hashes are near in every position, a few at a time; each once, and of rows of the same
    pictures with i < j. The worst position decides."""
    for near_i, near_j in near(left[0], right[0], match.radius):
        for start in range(0, len(near_i), _PAIRS):
            i, j = near_i[start : start + _PAIRS], near_j[start : start + _PAIRS]
            if left is right:
                i, j = i[i < j], j[i < j]
            yield _lot(left, right, i, j, match)


def _lot(left: Sequence[Pictures], right: Sequence[Pictures], i: Array, j: Array, match: Match) -> Lot:
    distance = np.max([apart(a.take(i), b.take(j)) for a, b in zip(left, right, strict=True)], axis=0)
    close = distance <= match.radius
    i, j, distance = i[close], j[close], distance[close]
    found = [judged(a.take(i), b.take(j), match) for a, b in zip(left, right, strict=True)]
    verdict, rest = np.min([verdict for verdict, _ in found], axis=0), np.max([rest for _, rest in found], axis=0)
    return Lot(i, j, verdict, distance, distance + rest)


class Fewest:
    """Of pairs those that are least apart, at most so many for each row of the right; of equals the first of the left.

    Whatever comes in which order, the same stay.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lots: list[Lot] = []

    def add(self, lot: Lot) -> None:
        self._lots.append(lot)
        if sum(len(one.left) for one in self._lots[1:]) > max(_PAIRS, len(self._lots[0].left)):
            self._lots = [self.pairs()]

    def pairs(self) -> Lot:
        """In the order of the right rows, nearest first."""
        if not self._lots:
            return Lot(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.int8, np.uint8, np.float32)))
        lot = Lot(*(np.concatenate(column) for column in zip(*self._lots, strict=True)))
        order = np.lexsort((lot.left, lot.apart, lot.right))
        right = lot.right[order]
        place = np.arange(len(right)) - np.searchsorted(right, right)
        return Lot(*(column[order[place < self._most]] for column in lot))
