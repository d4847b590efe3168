"""Candidates are decided by what the samples themselves hold: one function for each kind.

A kind has the columns of SAMPLE that it reads, and a function of the two samples. It answers with an Outcome: near, or
why not (near_misses.WHY).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from stages.duplicates import minhash
from stages.duplicates.params import DedupeParams
from stages.duplicates.text_sketch import Text
from stages.filters.image_match import LOOK, OTHER, Pictures, apart, judged
from stages.filters.same_picture import Opened, distance_of

_OPENED = 16  # pictures of at most 1,536 and 768 pixels a side: 140 MiB

Sample = Mapping[str, Any]
Place = tuple[int, int]


class Outcome(NamedTuple):
    """`why`: "" if the two are duplicates; the distance of their pictures, or the similarity of their texts."""

    why: str
    distance: int | None = None
    jaccard: float | None = None


@dataclass
class Verifier:
    """Decides the candidates of a few samples. What is made of a sample is made once."""

    params: DedupeParams
    _texts: dict[Place, Text] = field(default_factory=dict)
    _pictures: dict[str, Opened] = field(default_factory=dict)

    def texts(self, left: tuple[Place, Sample], right: tuple[Place, Sample]) -> Outcome:
        a, b = self._text(*left), self._text(*right)
        if a.shape != b.shape:
            return Outcome("turns")
        sides = zip(a.grams, b.grams, strict=True)
        similarity = min((minhash.jaccard(x, y) for x, y in sides), default=1.0)
        if a.numbers != b.numbers:
            return Outcome("numbers", jaccard=similarity)
        return Outcome("" if similarity >= self.params.text.jaccard else "jaccard", jaccard=similarity)

    def _text(self, place: Place, sample: Sample) -> Text:
        if place not in self._texts:
            self._texts[place] = Text.of(sample["messages"], self.params.text.ngram)
        return self._texts[place]

    def pictures(self, left: tuple[Place, Sample], right: tuple[Place, Sample]) -> Outcome:
        """Position by position: what the signatures can't tell is told from the files."""
        infos = [sample["image_info"] for _, sample in (left, right)]
        one, other = (Pictures.of(listed) for listed in infos)
        distance = int(apart(one, other).max())
        verdicts, _ = judged(one, other, self.params.match)
        looked_at = np.flatnonzero(verdicts == LOOK).tolist()
        far = OTHER in verdicts or any(self._far(left[1], right[1], place) for place in looked_at)
        return Outcome("files" if far else "", distance=distance)

    def _far(self, left: Sample, right: Sample, place: int) -> bool:
        if left["image_info"][place]["sha256"] == right["image_info"][place]["sha256"]:
            return False
        match, opened = self.params.match, [self._opened(sample, place) for sample in (left, right)]
        return distance_of(opened[0], opened[1], match.mark) > match.leeway

    def _opened(self, sample: Sample, place: int) -> Opened:
        """The picture, of which the last few that were opened are kept: a sample's candidates follow each other."""
        name = sample["image_info"][place]["sha256"]
        if name not in self._pictures:
            if len(self._pictures) >= _OPENED:
                del self._pictures[next(iter(self._pictures))]
            self._pictures[name] = Opened(sample["images"][place]["bytes"])
        return self._pictures[name]


class Kind(NamedTuple):
    """`columns`: what it reads of SAMPLE beside sketch.COLUMNS, in parquet's names."""

    decide: Callable[[Verifier, tuple[Place, Sample], tuple[Place, Sample]], Outcome]
    columns: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "text": Kind(Verifier.texts),
    "picture": Kind(Verifier.pictures, ("images.list.element.bytes",)),
}
