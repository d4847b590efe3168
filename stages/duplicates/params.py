"""What counts as a duplicate, and which of several stays: the section `data.dedupe` of a recipe.

unit    sample: the same pictures in the same order and the same conversation. The same picture with another question is
        another sample
        image: the same pictures in the same order, whatever is said of them; for sets of captions
prefer  who stays of samples that are duplicates, the first key that tells deciding: `source`, the recipe's order of
        sources; `resolution`, the most pixels; `rating`, the highest mean of what the source rates; last of all,
        always, a hash of the content, so that neither names nor their order decide
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stages.filters.image_match import Match

Unit = Literal["sample", "image"]
Key = Literal["source", "resolution", "rating"]


@dataclass(frozen=True)
class DedupeParams:
    """See above."""

    unit: Unit = "sample"
    match: Match = field(default_factory=Match)
    prefer: tuple[Key, ...] = ("source", "resolution", "rating")

    def __post_init__(self) -> None:
        if len(set(self.prefer)) < len(self.prefer):
            raise ValueError(f"prefer: got {', '.join(self.prefer)}, wanted each key once at the most")
