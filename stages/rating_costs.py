"""What a least rating would cost: of rated samples, and of rated turns, how many lie below each threshold.

FineVision rates rows and turns from 1 to 5. Thresholds on such ratings never beat the unfiltered set, so none is set by
default; whoever wants one sees here what it takes. A rating counts if all its values are whole numbers up to 5: other
scores have other scales. A value that is absent is below nothing, as in the filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.kept_turns import Kept

THRESHOLDS = (1, 2, 3, 4, 5)
COLUMNS = ("scores", "turn_scores")  # of SAMPLE
OF = {"scores": "rows", "turn_scores": "turns"}


@dataclass
class Cost:
    """How many are rated, and how many of them are below each threshold. `whole`: the values are such ratings."""

    rated: int = 0
    below: list[int] = field(default_factory=lambda: [0] * len(THRESHOLDS))
    whole: bool = True

    def add(self, values: np.ndarray) -> None:
        told = values[~np.isnan(values)]
        self.rated += len(told)
        self.below = [so_far + int((told < least).sum()) for so_far, least in zip(self.below, THRESHOLDS, strict=True)]
        self.whole &= bool(((told == np.round(told)) & (told >= 0) & (told <= THRESHOLDS[-1])).all())


Costs = dict[tuple[str, str], Cost]
"""By what is rated ("rows", "turns") and the name of the rating."""


def count(costs: Costs, samples: pa.Table, kept: Sequence[Kept]) -> None:
    """Add some samples, which have COLUMNS; `kept`: the turns that stay of each."""
    for column, of in OF.items():
        lists: Any = samples[column].combine_chunks()
        rated: Any = lists.flatten()
        names = rated.field("name").dictionary_encode()
        codes = names.indices.to_numpy(zero_copy_only=False)
        values = rated.field("value" if column == "scores" else "values")
        if column == "turn_scores":
            stays = _stay(values, pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), kept)
            codes = codes[pc.list_parent_indices(values).to_numpy(zero_copy_only=False)][stays]
            values = values.flatten().filter(pa.array(stays))
        numbers = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
        for code, name in enumerate(names.dictionary.to_pylist()):
            costs.setdefault((of, name), Cost()).add(numbers[codes == code])


def _stay(values: Any, row: np.ndarray, kept: Sequence[Kept]) -> np.ndarray:
    """bool: of each value of the lists, whether its turn stays; `row`: of each list, its sample."""
    sizes = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    turn = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    mine = np.repeat(row, sizes)
    cut = {number: set(turns) for number, turns in enumerate(kept) if turns is not None}
    stays = np.ones(len(turn), bool)
    for place in np.flatnonzero(np.isin(mine, list(cut))):
        stays[place] = turn[place] in cut[mine[place]]
    return stays
