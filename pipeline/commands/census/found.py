"""What a census found of one recipe, whatever it was counted from: the one shape for table, JSON and plots."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stages.census import Tally


@dataclass
class Found:
    """A recipe's numbers.

    name      what it is called in tables: the recipe file's name
    model     the parameters of its shards, the tokenizer's fingerprint among them: what the numbers depend on
    identity  of the step that writes its shards; "" while what it reads has not run
    basis     in words: what was counted, before or after which filters
    rejected  source -> reason -> rows that never became a sample
    """

    name: str
    recipe: str
    model: dict[str, Any]
    identity: str
    basis: str
    tally: Tally = field(default_factory=Tally)
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def max_tokens(self) -> int:
        return int(self.model["max_tokens"])
