"""Can it be met at all? Names that no sample has, shares of groups without samples: said before anything is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from stages.filters.detect import UNDETERMINED
from stages.mixture.draw import Cell
from stages.mixture.params import KEYS, Key, MixtureParams, near
from stages.mixture.shares import classes_of, largest


def check(params: MixtureParams, amounts: Mapping[Cell, int]) -> None:
    """Raise ValueError, in one line, for what can't be met. `amounts`: of all cells, 0 where no sample is counted."""
    if params.asks("language") and all(cell.language == UNDETERMINED for cell in amounts):
        wanted = "a section data.language, or a source that declares its languages"
        raise ValueError(f"language: of no sample is the language known; wanted {wanted}")
    for key in KEYS:
        there: Counter[str] = Counter()
        for cell, amount in amounts.items():
            there[cell.group(key)] += amount
        _check_names(params, key, there)
        _check_shares(params, key, there)
    if len(params.shares.keys) > 1 and amounts:
        classes = classes_of(list(amounts), params.shares)
        held = {one: sum(a for cell, a in amounts.items() if classes.of(cell) == one) for one in classes.all}
        if largest(classes, held) <= 0:
            raise ValueError(f"shares: those by {' and by '.join(classes.keys)} can't be met together; change one")


def _check_names(params: MixtureParams, key: Key, there: Mapping[str, int]) -> None:
    for word, rules in (("limits", params.limits), ("shares", params.shares)):
        for name in getattr(rules, key):
            if name not in there and key != "kind":
                raise ValueError(f"{word}.{key}.{name}: no sample is of such a {key}{near(name, there)}")


def _check_shares(params: MixtureParams, key: Key, there: Mapping[str, int]) -> None:
    asked: Mapping[str, float] = getattr(params.shares, key)
    for name, percent in asked.items():
        if percent and not there.get(name):
            raise ValueError(f"shares.{key}.{name}: got {percent:g} %, and no sample that all filters keep is of it")
    rest = params.shares.rest(key) if asked else 0.0
    if rest and not any(amount for name, amount in there.items() if name not in asked):
        total = sum(asked.values())
        say = ", ".join(f"{name}: {100 * percent / total:.4g}" for name, percent in asked.items() if total)
        why = f"and no sample is of another {key} for the other {rest:g} %"
        raise ValueError(f"shares.{key}: adds up to {total:g} %, {why}; wanted 100 %, e.g. {say}")
