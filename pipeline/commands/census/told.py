"""A census as JSON: every number in full, and what each depends on. The same bytes for the same data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.commands.census.budget import Plan, budget
from pipeline.commands.census.found import Found
from pipeline.commands.census.lengths import bins, quantiles
from schemas.identity import fingerprint
from schemas.shard import COUNTS
from stages.census import AMOUNTS, FROM, Amount, Group, Place


def to_json(found: Sequence[Found], plan: Plan, basis: str, assumed: dict[str, Any] | None) -> str:
    """The text of the file. `basis`: what was counted; `assumed`: what an estimate rests on, None for a count."""
    told: dict[str, Any] = {"from": basis, "exact": assumed is None, "images_proven": basis == FROM[0]}
    told |= {"assumptions": assumed, "recipes": [_recipe(one, plan) for one in found]}
    return json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _recipe(found: Found, plan: Plan) -> dict[str, Any]:
    kept, spent = found.tally.kept, None
    if plan.asked:
        spent = budget(plan, kept["rows"], kept["num_tokens"])
    return {
        "recipe": found.recipe,
        "model": found.model,
        "fingerprint": fingerprint(found.model),
        "shards": found.identity or None,
        "basis": found.basis,
        "samples": found.tally.samples,
        "rejected": sum(sum(reasons.values()) for reasons in found.rejected.values()),
        "rejected_by_source": found.rejected,
        "kept": amounts(kept),
        "totals": {name: kept[name] for name in COUNTS},
        "dropped": _dropped(found.tally.dropped),
        "groups": [
            {**place._asdict(), **_group(group)}
            for place, group in sorted(found.tally.groups.items(), key=lambda item: _order(item[0]))
        ],
        "lengths": {
            "quantiles": quantiles(found.tally.lengths),
            "bins": [{"from": start, "below": end, "rows": rows} for start, end, rows in bins(found.tally.lengths)],
        },
        "budget": None if spent is None else {"plan": asdict(plan), **asdict(spent)},
    }


def amounts(amount: Amount) -> dict[str, int]:
    """All of an amount, zeros too."""
    return {name: amount[name] for name in AMOUNTS}


def reason(why: tuple[str, str]) -> str:
    """A filter's reason with the filter's name; the model recipe's own stand alone."""
    return ".".join(name for name in why if name)


def _order(place: Place) -> tuple[str, bool, str]:
    return place.source, place.language is not None, place.language or ""


def _group(group: Group) -> dict[str, Any]:
    return {"samples": group.samples, "kept": amounts(group.kept), "dropped": _dropped(group.dropped)}


def _dropped(dropped: dict[tuple[str, str], Amount]) -> dict[str, dict[str, int]]:
    return {reason(why): amounts(amount) for why, amount in sorted(dropped.items())}
