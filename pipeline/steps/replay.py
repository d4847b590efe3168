"""What a filter would say with other parameters, part by part, from the evidence in its verdict files.

Neither texts nor images are opened: of samples only what the filter names in `Again.columns` is read. What is held is
one part.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pyarrow as pa

from pipeline.graph.context import Context
from pipeline.graph.stage import Earlier, Replay, Step
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import read
from schemas.strict import RecipeError
from schemas.verdict import KEPT_TURNS, TURNS
from stages.mixture.draw import JUDGED
from stages.stage import Filter, check_reasons


def narrow(verdict: pa.Table) -> pa.Table:
    """A verdict without its evidence, but for what others read."""
    return verdict.select([name for name in JUDGED if name in verdict.column_names])


def replay(judge: Filter, before: Step, after: Step, context: Context, earlier: Earlier) -> Replay:
    """The verdicts of a filter that judges each sample by itself. Raises RecipeError for what the evidence lacks."""
    if judge.again is None:
        raise RecipeError(f"data.{judge.name}: its evidence doesn't tell; this needs a run of {judge.name}")
    if why := judge.again.refuse(before.params, after.params):
        raise RecipeError(f"data.{judge.name}: {why}; this needs a run of {judge.name}")
    parts = parts_of(before.making("samples"), context)
    return functools.partial(_again, judge, before, after, context, parts)


def _again(judge: Filter, before: Step, after: Step, context: Context, parts: Sequence[Part], number: int) -> pa.Table:
    assert judge.again is not None
    verdict = read(context.out / before.folder / layout.verdict(number)).combine_chunks()
    names = list(judge.again.columns)
    samples = read(parts[number].path, names) if names else verdict
    reasons, kept = judge.again.judge(verdict, samples, after.params)
    check_reasons({*reasons}, judge.reasons, judge.name)
    table = narrow(verdict)
    table = table.set_column(1, "reason", pa.array(reasons, pa.string()))
    if kept is None:
        return table
    place = table.schema.get_field_index(KEPT_TURNS)
    return table.set_column(place, KEPT_TURNS, pa.array(kept, TURNS.field(KEPT_TURNS).type))
