"""What thresholds on the sources' ratings would cost of what is kept: for the report, from narrow columns of samples.

Read are the ratings of those sources that have some, part by part, and the verdicts of pretokenise and on turns.
"""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.steps.samples import parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import columns, read
from schemas.verdict import KEPT_TURNS
from stages.kept_turns import kept_turns
from stages.rating_costs import COLUMNS, Costs, count


def costs(last: Step, context: Context) -> list[dict[str, Any]]:
    """A line for each rating of each source: what is rated, how much of it, how much of that is below 1, 2 ... 5."""
    facts = {step.label: context.finished(step).facts for step in last.making("samples")}
    found: dict[str, Costs] = {name: {} for name, known in facts.items() if any(known.get(one) for one in COLUMNS)}
    for number, part in enumerate(parts_of(last.making("samples"), context)):
        if part.source in found:
            _count(found[part.source], part.path, number, last, context)
    return [
        {"source": source, "of": of, "name": name, "rated": cost.rated, "below": cost.below}
        for source, rated in found.items()
        for (of, name), cost in sorted(rated.items())
        if cost.whole and cost.rated
    ]


def _count(found: Costs, path: str, number: int, last: Step, context: Context) -> None:
    kept = pc.is_null(read(context.out / last.folder / layout.verdict(number), ["reason"])["reason"])
    files = [context.out / step.folder / layout.verdict(number) for step in last.making("verdicts")]
    turns = {str(file): read(file, [KEPT_TURNS]) for file in files if KEPT_TURNS in columns(file)}
    stay = [one for one, keeps in zip(kept_turns(len(kept), turns), kept.to_pylist(), strict=True) if keeps]
    count(found, read(path, list(COLUMNS)).filter(kept), stay)
