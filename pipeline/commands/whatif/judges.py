"""The filters of a recipe, as they judged and as they would: those whose parameters are others, and those that follow.

What is judged again is held without its evidence, some bytes of each sample; all else is read part by part. A filter
that is switched off keeps everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from pipeline.graph.context import Context
from pipeline.graph.stage import Replay, Step
from pipeline.storage import layout
from pipeline.storage.part_reader import columns, read
from schemas.strict import RecipeError
from schemas.verdict import KEPT_TURNS
from stages.mixture.draw import JUDGED

Verdicts = Mapping[str, pa.Table]


class Judges:
    """Of a finished recipe. `changed`: whose parameters are others; `following`: who reads what those say."""

    def __init__(self, context: Context, steps: Sequence[Step], other: Context, would_be: Sequence[Step]) -> None:
        self.context, self.last = context, steps[-1]
        self.steps = self.last.making("verdicts")
        self.changed: list[str] = []
        self.following: list[str] = []
        self._replays: dict[str, Replay | None] = {}
        self._known: dict[tuple[str, int], pa.Table] = {}
        after = {step.stage.name: step for step in would_be}
        for step in self.steps:
            self._open(step, after.get(step.stage.name), other)

    def _open(self, step: Step, after: Step | None, other: Context) -> None:
        name = step.stage.name
        if after is None:
            self.changed.append(name)
            self._replays[name] = None
            return
        follows = any(judge.stage.name in self._replays for judge in step.making("verdicts"))
        if after.parameters == step.parameters and not follows:
            return
        if after.parameters != step.parameters:
            self.changed.append(name)
            step.stage.foresee(after, other)
            step.stage.require(after, other)
        else:
            self.following.append(name)
        if step.stage.replay is None:
            raise RecipeError(f"data.{name}: what it says can't be told without a run of {name}")
        earlier = [judge for judge in self.steps[: self.steps.index(step)] if judge in step.making("verdicts")]
        self._replays[name] = step.stage.replay(
            step, after, other, lambda part: {judge.stage.name: self._would_be(judge, part) for judge in earlier}
        )

    def were(self, part: int) -> Verdicts:
        """What each filter said of a part."""
        return {step.stage.name: self._was(step, part) for step in self.steps}

    def would_be(self, part: int) -> Verdicts:
        """What each would say."""
        return {step.stage.name: self._would_be(step, part) for step in self.steps}

    def _was(self, step: Step, part: int) -> pa.Table:
        path = self.context.out / step.folder / layout.verdict(part)
        return read(path, [name for name in JUDGED if name in columns(path)])

    def _would_be(self, step: Step, part: int) -> pa.Table:
        name = step.stage.name
        if name not in self._replays:
            return self._was(step, part)
        was = self._was(step, part)
        if (name, part) not in self._known:
            replay = self._replays[name]
            self._known[name, part] = _small(_all_kept(was) if replay is None else replay(part), was)
        small = self._known[name, part]
        rest = [small[one] if one in small.column_names else was[one] for one in was.column_names]
        return pa.table(rest, names=was.column_names)


def _all_kept(verdict: pa.Table) -> pa.Table:
    """The verdicts of a filter that is off."""
    for name in ("reason", KEPT_TURNS):
        if name in verdict.column_names:
            place = verdict.schema.get_field_index(name)
            nothing = pa.nulls(verdict.num_rows, verdict.schema.field(name).type)
            verdict = verdict.set_column(place, name, nothing)
    return verdict


def _small(verdict: pa.Table, was: pa.Table) -> pa.Table:
    """What of a new verdict differs from the old one, as small as it can be held: reasons, and turns if any are."""
    if not verdict["sample_id"].equals(was["sample_id"]):
        raise ValueError("what is judged again is not what was judged")
    kept = {"reason": verdict["reason"].combine_chunks().dictionary_encode()}
    if KEPT_TURNS in verdict.column_names and not verdict[KEPT_TURNS].equals(was[KEPT_TURNS]):
        kept[KEPT_TURNS] = verdict[KEPT_TURNS].combine_chunks()
    return pa.table(kept)
