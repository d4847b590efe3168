"""Manifests -> `report.json` and one self-contained `report.html`: the funnel, the reasons explained, tokens, steps.

The page is report.html.j2, filled with what report.json holds. Everything on it is escaped (dataset and file names are
not ours); it loads nothing from anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.commands import ratings
from pipeline.commands.funnel import Funnel, funnel, rows
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage.commit import commit_text
from stages.cells import CELLS

_PAGE = Path(__file__).with_name("report.html.j2")


def write(steps: Sequence[Step], context: Context) -> tuple[Path, Path]:
    """Write report.json and report.html; their paths. Raises MissingInput while a step is missing."""
    notices = {step.name: note for step in steps if (note := step.stage.notice(step, context))}
    made, cells = funnel(steps, context), context.finished(steps[-1]).facts[CELLS]
    rated = ratings.costs(steps[-1], context)
    filled = content(made, [_step(step, context) for step in steps], notices, cells, rated)
    json_path, html_path = context.out / "report.json", context.out / "report.html"
    commit_text(json_path, json.dumps(filled, indent=2, ensure_ascii=False) + "\n")
    commit_text(html_path, page(filled))
    return json_path, html_path


def content(
    of: Funnel,
    steps: Sequence[Mapping[str, Any]],
    notices: Mapping[str, str] = MappingProxyType({}),
    cells: Sequence[Mapping[str, Any]] = (),
    rated: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What report.json holds."""
    total = of.all.rows_in or 1
    lines: list[dict[str, Any]] = [
        {"what": what, "numbers": numbers, "share": numbers[-1] / total} for what, numbers in rows(of)
    ]
    used = of.all.dropped.keys() | of.all.rejected.keys()
    used |= {f"{name}.{reason}" for name, counted in of.turns.items() for reason in counted.dropped}
    return {
        "sources": list(of.sources),
        "all": asdict(of.all),
        "by_source": {name: asdict(counts) for name, counts in of.sources.items()},
        "rows": lines,
        "turns": {name: asdict(counted) for name, counted in of.turns.items()},
        "totals": of.totals,
        "cells": list(cells),
        "ratings": list(rated),
        "num_shards": of.num_shards,
        "shards": of.shards,
        "reasons": {name: text for name, text in of.meanings.items() if name in used},
        "notices": dict(notices),
        "steps": list(steps),
    }


def page(filled: Mapping[str, Any]) -> str:
    """The page of what report.json holds."""
    loader = FileSystemLoader(_PAGE.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["number"] = "{:,}".format
    environment.filters["cell"] = lambda n: f"{n:,}" if n else "–"
    return environment.get_template(_PAGE.name).render(**filled)


def _step(step: Step, context: Context) -> dict[str, Any]:
    counts = context.finished(step).counts
    return {"folder": step.folder, "identity": step.identity, "rows_in": counts.rows_in, "kept": counts.kept}
