"""Manifests -> `report.json` and one self-contained `report.html`: the funnel, the reasons explained, tokens, steps.

The page is report.html.j2, filled with what report.json holds. Everything on it is escaped (dataset and file names are
not ours); it loads nothing from anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.commands import funnel as summary
from pipeline.graph.build import Step
from pipeline.storage import commit as storage
from schemas.manifest import read
from stages.catalogue import STAGES

_PAGE = Path(__file__).with_name("report.html.j2")


def write(steps: Sequence[Step], out: Path) -> tuple[Path, Path]:
    """Write report.json and report.html into `out`; their paths. Raises MissingInput while a step is missing."""
    filled = content(summary.funnel(steps, out), [_step(step, out) for step in steps])
    json_path, html_path = out / "report.json", out / "report.html"
    storage.commit_text(json_path, json.dumps(filled, indent=2, ensure_ascii=False) + "\n")
    storage.commit_text(html_path, page(filled))
    return json_path, html_path


def content(funnel: summary.Funnel, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What report.json holds."""
    total = funnel.all.rows_in or 1
    lines: list[dict[str, Any]] = [
        {"what": what, "numbers": numbers, "share": numbers[-1] / total} for what, numbers in summary.rows(funnel)
    ]
    used = {line["what"].split(" ", 1)[1] for line in lines if "." in line["what"]}
    meanings = {f"{stage}.{r}": text for stage, entry in STAGES.items() for r, text in entry.reasons.items()}
    return {
        "sources": list(funnel.sources),
        "all": asdict(funnel.all),
        "by_source": {name: asdict(counts) for name, counts in funnel.sources.items()},
        "rows": lines,
        "totals": funnel.totals,
        "num_shards": funnel.num_shards,
        "shards": funnel.shards,
        "reasons": {name: text for name, text in meanings.items() if name in used},
        "steps": list(steps),
    }


def page(filled: Mapping[str, Any]) -> str:
    """The page of what report.json holds."""
    loader = FileSystemLoader(_PAGE.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["number"] = "{:,}".format
    environment.filters["cell"] = lambda n: f"{n:,}" if n else "–"
    return environment.get_template(_PAGE.name).render(**filled)


def _step(step: Step, out: Path) -> dict[str, Any]:
    counts = read(out / step.folder).counts
    return {"folder": step.folder, "identity": step.identity, "rows_in": counts.rows_in, "kept": counts.kept}
