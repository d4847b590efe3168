"""The mutation tester changes what it says it changes, one thing at a time, and its table names what there is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks import mutants
from benchmarks.mutants import ROOT, TESTS, Mutant

MODULE = '''
"""A docstring."""
VERSION = 3

@frozen
def judge(row: dict[str, int], most: int = 5) -> str | None:
    """Another."""
    assert row["a"] > 0
    if row["a"] < most and not row["b"]:
        raise ValueError(f"{most} is too little", "too_little", "a text for people")
    try:
        return stage(row, name=f"n{most}")
    except KeyError:
        print("lost", 7)
    return None
'''
WANTED = """
def judge(row: dict[str, int], most: int=6) -> str | None:
def judge(row: dict[str, int], most: int=4) -> str | None:
if row['a'] <= most and (not row['b']):
if row['a'] >= most and (not row['b']):
if row['a'] < most or not row['b']:
if row['a'] < most:
if not row['b']:
if row['a'] < most and row['b']:
if row[''] < most and (not row['b']):
if row['a'] < most and (not row['']):
if True:
if False:
raise ValueError(f'{most} is too little', '', 'a text for people')
pass
return stage(row)
return stage(row, name=f'n')
return None
raise
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Mutant]:
    (tmp_path / "judge.py").write_text(MODULE)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    return mutants.mutants("judge.py")


def test_a_module_has_these_mutants_and_no_others(module: list[Mutant]) -> None:
    """One of them only lacks its decorator; none touches a docstring, a hint, an assert, a version or a message."""
    original = ast.unparse(ast.parse(MODULE)).splitlines()
    lines = [ast.unparse(ast.parse(mutant.source)).splitlines() for mutant in module]
    added = sorted("".join(line for line in text if line not in original).strip() for text in lines)
    assert added == sorted(["", *WANTED.strip().splitlines()])
    assert ["@frozen" not in text for text in lines].count(True) == 1


def test_a_mutant_is_shown_by_its_line_and_the_statement_that_differs(module: list[Mutant]) -> None:
    shown = {mutants.difference(mutant) for mutant in module}
    assert "judge.py:9\n    -     if row['a'] < most and (not row['b']):\n    +     if True:" in shown


def test_the_share_of_a_module_depends_on_the_seed_alone(module: list[Mutant]) -> None:
    half = mutants.draw("judge.py", 0.5, 1)
    assert half == mutants.draw("judge.py", 0.5, 1) != mutants.draw("judge.py", 0.5, 2)
    assert len(half) == -(-len(module) // 2) and set(half) < set(module)
    assert mutants.draw("judge.py", 1.0, 1) == sorted(module)


def test_the_table_names_modules_and_tests_that_are_there() -> None:
    for module in TESTS:
        assert (ROOT / module).is_file(), module
        assert mutants.tests(ROOT, module)


def test_the_table_of_results_adds_up() -> None:
    results = [("a.py", "killed"), ("a.py", "survived"), ("b.py", "timeout"), ("a.py", "killed")]
    assert mutants.table(results).splitlines()[2:] == [
        "| `a.py` | 3 | 2 | 0 | 66.7% |",
        "| `b.py` | 1 | 1 | 1 | 100.0% |",
        "| all | 4 | 3 | 1 | 75.0% |",
    ]
