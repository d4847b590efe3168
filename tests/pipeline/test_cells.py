"""What each step counts by source, subset, language and licence: all of its ledger, and the same for any parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from tests.pipeline.conftest import MakeRecipe, run
from tests.pipeline.executors import Shuffled

Finished = tuple[Path, Context, list[Step]]


def cells(context: Context, steps: list[Step]) -> dict[str, list[dict[str, Any]]]:
    """The fact of each step that has it."""
    facts = {step.name: context.finished(step).facts for step in steps}
    return {name: found["cells"] for name, found in facts.items() if "cells" in found}


def test_they_add_up_to_the_ledger_and_to_the_tokens(tiny_run: Finished) -> None:
    _, context, steps = tiny_run
    found = cells(context, steps)
    judges = ["decontaminate", "language", "quality", "dedupe"]
    assert list(found) == ["ingest talks", "ingest signs", "ingest exam", *judges, "pretokenise"]
    for step in steps:
        counts = context.finished(step).counts
        if step.stage.makes == "samples":
            assert sum(cell["rows"] for cell in found[step.name]) == counts.kept
        if step.stage.makes == "verdicts":
            assert sum(cell["rows"] for cell in found[step.name]) == counts.rows_in
            assert sum(cell["kept"] for cell in found[step.name]) == counts.kept
    for name, total in context.finished(steps[-1]).facts["totals"].items():
        assert sum(cell[name] for cell in found["pretokenise"]) == total > 0
    assert {"source": "talks", "subset": "talks", "language": "fr", "licence": "unknown", "rows": 2, "kept": 0} in [
        {**cell, "licence": "unknown"} for cell in found["language"]
    ]


def test_neither_parts_nor_shards_nor_order_change_them(
    tiny_run: Finished, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    _, context, steps = tiny_run

    def larger(mapping: dict[str, Any]) -> None:
        mapping["data"]["ingest"]["rows_per_part"] = 4
        mapping["data"]["pretokenise"]["shard_bytes"] = 1 << 20

    other, others = run(tiny_recipe(larger), executor=Shuffled())
    assert cells(other, others) == cells(context, steps)


def test_the_report_has_them(tiny_recipe: MakeRecipe, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_recipe()
    context, steps = run(path)
    assert main(["report", str(path)]) == 0
    found = json.loads((context.out / "report.json").read_text())["cells"]
    assert found == cells(context, steps)["pretokenise"]
    page = (context.out / "report.html").read_text()
    assert f"<td>{found[0]['num_text_tokens']:,}</td>" in page.split('id="cells"')[1]
