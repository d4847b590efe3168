"""Evidence -> verdicts: which samples a recipe's limits drop, and which turns of the others they remove.

A function of what was measured, of the source's ratings and of the limits: for any other limits it says which samples
would move, without a text or an image in reach. Turns are removed first, by the rules whose reasons `turns.remove`
lists; the other rules of turns look at those that stay, and so do the numbers of turns and of characters. Images and
the ratings of the whole sample are judged as they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.filters.rules.limits import QualityParams
from stages.filters.rules.table import NO_TURN_LEFT, RULES, Rule, active

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_NONE = len(RULES)


class Decision(NamedTuple):
    """By sample: the reason that drops it, the rounds that stay (None: all), those that go with their reasons."""

    reasons: list[str | None]
    kept: list[list[int] | None]
    removed: list[list[dict[str, Any]] | None]


def decide(evidence: pa.Table, rated: pa.Table, params: QualityParams) -> Decision:
    """`rated`: the samples' `scores` and `turn_scores`. Raises ValueError for a limit on what was not measured."""
    turns = evidence["turns"].to_numpy()
    owner = np.repeat(np.arange(len(turns)), turns)
    rules = active(params)
    fails = {place: _fails_by_turn(rule, limit, evidence, rated) for place, rule, limit in rules if rule.of == "turn"}
    why = np.full(len(owner), _NONE)
    for place in reversed([place for place in fails if RULES[place].reason in params.turns.removing]):
        why[fails[place]] = place
    left = why == _NONE
    whole = _left(evidence, left, owner)
    found = np.full(len(turns), _NONE)
    for place, rule, limit in reversed(rules):
        if rule.of == "turn":
            hit = _any(fails[place] & left, owner, len(turns))
        else:
            hit = _compared(rule, limit, whole.get(rule.measure), evidence, rated)
        found[hit] = place
    nothing = _nothing_left(evidence, left, owner, len(turns))
    return _told(found, nothing, why, turns)


def _left(evidence: pa.Table, left: Mask, owner: npt.NDArray[np.int64]) -> dict[str, Numbers]:
    """How many turns and characters a sample has when the removed turns are gone."""
    turns, characters = (_numbers(evidence[name]) for name in ("turns", "characters"))
    gone = _flat(evidence, "turn_characters")[~left]
    return {
        "turns": turns - np.bincount(owner[~left], minlength=len(turns)),
        "characters": characters - np.bincount(owner[~left], gone, minlength=len(turns)),
    }


def _nothing_left(evidence: pa.Table, left: Mask, owner: npt.NDArray[np.int64], rows: int) -> Mask:
    """Samples that had a turn, or a question, and have none now."""
    asked = _flat(evidence, "asked") > 0
    some, any_asked = _any(left, owner, rows), _any(asked, owner, rows)
    return _any(~left, owner, rows) & (~some | (any_asked & ~_any(asked & left, owner, rows)))


def _any(mask: Mask, owner: npt.NDArray[np.int64], rows: int) -> Mask:
    """Whether it holds for a turn of each sample."""
    found: Mask = np.bincount(owner[mask], minlength=rows) > 0
    return found


def _fails_by_turn(rule: Rule, limit: Any, evidence: pa.Table, rated: pa.Table) -> Mask:
    if isinstance(limit, Mapping):
        turns = evidence["turns"].to_pylist()
        each = [_beyond(rule, _turn_ratings(rated, name, turns), np.float32(least)) for name, least in limit.items()]
        return _either(each)
    fails_here = _beyond(rule, _flat(evidence, rule.measure), limit)
    return fails_here & ~np.isnan(_flat(evidence, rule.where)) if rule.where else fails_here


def _compared(rule: Rule, limit: Any, values: Numbers | None, evidence: pa.Table, rated: pa.Table) -> Mask:
    if isinstance(limit, Mapping):
        return _either([_beyond(rule, _ratings(rated, name), np.float32(least)) for name, least in limit.items()])
    return _beyond(rule, _numbers(evidence[rule.measure]) if values is None else values, limit)


def _either(masks: list[Mask]) -> Mask:
    found: Mask = np.logical_or.reduce(masks)
    return found


def _beyond(rule: Rule, values: Numbers, limit: Any) -> Mask:
    """NaN, which stands for what could not be told, is never beyond."""
    found: Mask = values < limit if rule.fails == "below" else values > limit
    return found


def _flat(evidence: pa.Table, name: str) -> Numbers:
    """The values of a list column, turn by turn. Raises ValueError where nothing was measured."""
    lists = evidence[name].combine_chunks()
    if lists.null_count:
        raise ValueError(f"{name} was not measured; set data.quality.evidence: all, and run the stage")
    return _numbers(lists.flatten())


def _numbers(values: Any) -> Numbers:
    plain = pc.cast(values, pa.int8()) if pa.types.is_boolean(values.type) else values
    found: Numbers = pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False)
    return found


def _ratings(rated: pa.Table, name: str) -> Numbers:
    rows = rated["scores"].to_pylist()
    return np.array([_named(row, name, "value") for row in rows], np.float64)


def _turn_ratings(rated: pa.Table, name: str, turns: list[int]) -> Numbers:
    found: list[Any] = []
    for row, count in zip(rated["turn_scores"].to_pylist(), turns, strict=True):
        values = _named(row, name, "values")
        found += values if values is not None and len(values) == count else [None] * count
    return np.array(found, np.float64)


def _named(row: Any, name: str, field: str) -> Any:
    return next((one[field] for one in row or () if one["name"] == name), None)


def _told(found: npt.NDArray[np.int64], nothing: Mask, why: npt.NDArray[np.int64], turns: Any) -> Decision:
    reasons = [RULES[place].reason if place != _NONE else None for place in found.tolist()]
    kept: list[list[int] | None] = [None] * len(reasons)
    removed: list[list[dict[str, Any]] | None] = [None] * len(reasons)
    ends = np.cumsum(turns)
    touched = np.unique(np.searchsorted(ends, np.flatnonzero(why != _NONE), "right")).tolist()
    for row in touched:
        mine = why[ends[row] - turns[row] : ends[row]].tolist()
        if nothing[row]:
            reasons[row] = NO_TURN_LEFT
            removed[row] = [{"turn": n, "reason": _of(place)} for n, place in enumerate(mine)]
        elif reasons[row] is None:
            kept[row] = [n for n, place in enumerate(mine) if place == _NONE]
            removed[row] = [{"turn": n, "reason": _of(place)} for n, place in enumerate(mine) if place != _NONE]
    return Decision(reasons, kept, removed)


def _of(place: int) -> str:
    return RULES[place].reason if place != _NONE else NO_TURN_LEFT
