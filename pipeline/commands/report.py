"""Manifests -> `report.json` and one self-contained `report.html`: the funnel, the reasons explained, tokens, steps.

Everything on the page is escaped (dataset and file names are not ours); it loads nothing from anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from pipeline.commands.funnel import Funnel, funnel, rows
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.steps.table import STAGES
from pipeline.storage.commit import commit_text

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tessera report</title> <style> body { font: 15px/1.5 system-ui,
sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c2430; } h1 { font-size: 1.5rem; } h2 {
font-size: 1.1rem; margin-top: 2rem; } table { border-collapse: collapse; } th, td { padding: .25rem .9rem .25rem 0;
text-align: right; vertical-align: top; } th:first-child, td:first-child, td.text { text-align: left; } thead th {
border-bottom: 1px solid #8a94a3; } tr.kept td { font-weight: 600; border-top: 1px solid #8a94a3; } tr.in td {
font-weight: 600; } .bar { display: inline-block; height: .8rem; background: #3b6ea8; vertical-align: baseline; }
.note { color: #5a6675; } code { font-size: .85rem; } </style></head><body> <h1>What became of {{
"{:,}".format(all.rows_in) }} rows</h1> <p>{{ "{:,}".format(all.kept) }} samples kept ({{ "%.1f" | format(100 *
all.kept / (all.rows_in or 1)) }} %), {{ "{:,}".format(all.dropped.values() | sum) }} dropped, {{
"{:,}".format(all.rejected.values() | sum) }} rejected. In = kept + dropped + rejected, checked for every source.</p>
<table><thead><tr><th></th>{% for name in sources %}<th>{{ name }}</th>{% endfor %}<th>all</th><th></th></tr></thead>
{% for row in rows %}<tr class="{{ row.css }}"><td>{{ row.what }}</td> {% for n in row.numbers %}<td>{{
"{:,}".format(n) if n else "–" }}</td>{% endfor %} <td class="text"><span class="bar" style="width: {{ "%.1f" |
format(row.share * 180) }}px"></span></td></tr> {% endfor %}</table> <h2>Tokens</h2> <table>{% for name, n in
totals.items() %}<tr><td>{{ name.removeprefix("num_") | replace("_", " ") }}</td> <td>{{ "{:,}".format(n)
}}</td><td>{{ "%.1f" | format(n / (all.kept or 1)) }} per sample</td></tr>{% endfor %}</table> <h2>Reasons</h2>
<table>{% for name, meaning in reasons.items() %}<tr><td>{{ name }}</td><td class="text">{{ meaning }}</td></tr> {%
endfor %}</table> <h2>Steps</h2> <table><thead><tr><th>folder</th><th>rows in</th><th>kept</th><th
class="text">identity</th></tr></thead> {% for step in steps %}<tr><td>{{ step.folder }}</td><td>{{
"{:,}".format(step.rows_in) }}</td> <td>{{ "{:,}".format(step.kept) }}</td><td class="text"><code>{{
step.identity[:16] }}</code></td></tr>{% endfor %}</table> <p class="note">Shards: <code>{{ shards }}</code></p>
</body></html>
"""


def write(steps: Sequence[Step], context: Context) -> tuple[Path, Path]:
    """Write report.json and report.html; their paths. Raises MissingInput while a step is missing."""
    content = _content(funnel(steps, context), steps, context)
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(_PAGE)
    json_path, html_path = context.out / "report.json", context.out / "report.html"
    commit_text(json_path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    commit_text(html_path, page.render(**content))
    return json_path, html_path


def _content(of: Funnel, steps: Sequence[Step], context: Context) -> dict[str, Any]:
    total = of.all.rows_in or 1
    lines: list[dict[str, Any]] = [
        {"what": what, "numbers": numbers, "share": numbers[-1] / total, "css": {"rows in": "in"}.get(what, what)}
        for what, numbers in rows(of)
    ]
    used = {line["what"].split(" ", 1)[1] for line in lines if "." in line["what"]}
    meanings = {f"{stage}.{r}": text for stage, entry in STAGES.items() for r, text in entry.reasons.items()}
    return {
        "sources": list(of.sources),
        "all": asdict(of.all),
        "by_source": {name: asdict(counts) for name, counts in of.sources.items()},
        "rows": lines,
        "totals": of.totals,
        "num_shards": of.num_shards,
        "shards": of.shards,
        "reasons": {name: text for name, text in meanings.items() if name in used},
        "steps": [_step(step, context) for step in steps],
    }


def _step(step: Step, context: Context) -> dict[str, Any]:
    counts = context.finished(step).counts
    return {"folder": step.folder, "identity": step.identity, "rows_in": counts.rows_in, "kept": counts.kept}
