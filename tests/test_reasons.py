"""A closed list is closed: every reason that code gives is declared by its stage, and every declared one is given."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.steps.table import STAGES
from stages import download, fetch_images, hash_files, ingest, pretokenise
from stages.filters.rules.table import NO_TURN_LEFT, RULES

ROOT = Path(__file__).parents[1]
TREES = [ast.parse(path.read_bytes()) for name in ("stages", "pipeline") for path in (ROOT / name).rglob("*.py")]
# A row of a table declares and gives its reason at once; that each is given, the tests of the rules show
TABLED = {NO_TURN_LEFT} | {rule.reason for rule in RULES}
# what carries a reason -> the lists that it may come from
CARRIERS = {
    "BadRow": ingest.REASONS,
    "BadImage": ingest.REASONS,
    "Dropped": pretokenise.REASONS,
    "Failed": {**download.REASONS, **fetch_images.REASONS},
    "Unhashed": hash_files.REASONS,
}


def given(carrier: str) -> set[str]:
    """The reasons written out where a carrier is made."""
    calls = (node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    named = (call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == carrier)
    return {first.value for first in named if isinstance(first, ast.Constant) and isinstance(first.value, str)}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_reason_that_is_given_is_declared(carrier: str) -> None:
    found = given(carrier)
    assert len(found) >= 2, f"{carrier} is no longer how reasons are given; correct this test"
    assert found <= CARRIERS[carrier].keys()


@pytest.mark.parametrize("stage", STAGES)
def test_every_declared_reason_is_given_somewhere_and_explained(stage: str) -> None:
    texts = Counter(node.value for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Constant))
    for reason, explanation in STAGES[stage].reasons.items():
        assert re.fullmatch("[a-z]+(_[a-z]+)*", reason) and explanation
        assert texts[reason] > 1 or reason in TABLED, f"{stage} declares {reason}, and nothing gives it"
