"""What names a step: each of its ingredients, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.graph.context import Context
from pipeline.graph.stage import Phase, Stage, Step
from pipeline.graph.task import Done
from pipeline.steps.filters import row
from pipeline.steps.table import STAGES
from stages.filters.table import FILTERS
from stages.stage import Filter
from tests.pipeline.conftest import MakeRecipe, opened

Finished = tuple[Path, Context, list[Step]]

NOTHING = Phase(split=lambda step, context, before: [], do=lambda job, writer: Done({}))
OTHERS = st.lists(st.integers(0, 3), max_size=3)  # which steps are read, in which order
INGREDIENTS: dict[str, st.SearchStrategy[Any]] = {
    "stage": st.text(max_size=3),
    "version": st.integers(0, 5),
    "parameters": st.dictionaries(st.text(max_size=2), st.integers() | st.text(max_size=2), max_size=3),
    "inputs": OTHERS,
    "benchmarks": OTHERS,
}


def stage(name: str, version: int) -> Stage:
    return Stage(name, 1, version, "verdicts", {}, lambda row, context, before: [], (NOTHING,))


def identity(
    context: Context,
    stage_name: str,
    version: int,
    parameters: dict[str, Any],
    inputs: Sequence[int],
    benchmarks: Sequence[int],
) -> str:
    others = [Step(stage("other", 1), "", {"number": number}, None) for number in range(4)]
    read, against = (tuple(others[number] for number in numbers) for numbers in (inputs, benchmarks))
    step = Step(stage(stage_name, version), "", parameters, None, read, against)
    assert step.resolve(context)
    return step.identity


@pytest.mark.parametrize("changed", INGREDIENTS)
@given(data=st.data())
def test_steps_that_differ_in_one_thing_have_different_identities(
    changed: str, tiny_run: Finished, data: st.DataObject
) -> None:
    one = {name: data.draw(values, name) for name, values in INGREDIENTS.items()}
    other = data.draw(INGREDIENTS[changed].filter(lambda value: value != one[changed]), f"another {changed}")
    first, second = (identity(tiny_run[1], *values.values()) for values in (one, {**one, changed: other}))
    assert first != second
    assert first == identity(tiny_run[1], *one.values())


@given(numbers=st.permutations(range(4)))
def test_the_order_of_what_is_read_and_what_it_is_read_for_count(tiny_run: Finished, numbers: list[int]) -> None:
    orders = [numbers, numbers[::-1], numbers[1:] + numbers[:1]]
    named = {identity(tiny_run[1], "a", 1, {}, order, []) for order in orders}
    named |= {identity(tiny_run[1], "a", 1, {}, [], order) for order in orders}
    assert len(named) == 6


def moved(before: list[Step], after: list[Step]) -> set[str]:
    """The names of the steps that have another identity."""
    old = {step.name: step.identity for step in before}
    return {step.name for step in after if step.identity != old[step.name]}


@pytest.mark.parametrize("name", ["ingest", "dedupe", "decontaminate", "language", "quality", "pretokenise"])
def test_a_raised_version_renames_its_steps_and_all_that_read_them(name: str, tiny_run: Finished) -> None:
    path, _, steps = tiny_run
    old = STAGES[name]
    _, raised = opened(path, table={**STAGES, name: replace(old, version=old.version + 1)})
    own = [step for step in raised if step.stage.name == name]
    assert own and all(step.stage.version == old.version + 1 for step in own)
    assert moved(steps, raised) == {step.name for step in raised if step in own or any(map(step.reads, own))}


@pytest.mark.parametrize("judge", FILTERS.values(), ids=list(FILTERS))
def test_a_filters_row_has_its_version(judge: Filter) -> None:
    assert row(replace(judge, version=judge.version + 1), 3).version == judge.version + 1


def test_sources_in_another_order_rename_what_reads_all_of_them(tiny_run: Finished, tiny_recipe: MakeRecipe) -> None:
    _, context, steps = tiny_run

    def turn(mapping: dict[str, Any]) -> None:
        mapping["data"]["sources"] = dict(reversed(mapping["data"]["sources"].items()))

    _, turned = opened(tiny_recipe(turn), context.out)
    assert moved(steps, turned) == {"compare", "decontaminate", "language", "quality", "dedupe", "pretokenise"}


def test_another_benchmark_renames_what_reads_it_for_that(tiny_run: Finished, tiny_recipe: MakeRecipe) -> None:
    _, context, steps = tiny_run

    def ask(mapping: dict[str, Any]) -> None:
        mapping["data"]["benchmarks"]["exam"]["prompt"] = "What number is it?"

    _, other = opened(tiny_recipe(ask), context.out)
    assert moved(steps, other) == {"ingest exam", "decontaminate", "dedupe", "pretokenise"}


def test_a_manifest_names_what_its_step_has_read(tiny_run: Finished) -> None:
    """By identity, which is also in the name of a folder that is there; or by what it brought."""
    _, context, steps = tiny_run
    for step in steps:
        inputs = {**context.finished(step).inputs, **context.finished(step).benchmarks}
        assert list(context.finished(step).benchmarks) == [read.folder for read in step.benchmarks]
        for read in step.needs:
            manifest = context.finished(read)
            by_identity = read.stage.named_by == "identity"
            assert inputs.pop(read.folder if by_identity else read.prefix) == read.stage.content(manifest)
            assert not by_identity or manifest.identity == read.identity
        assert not inputs
    assert sum(bool(step.needs) for step in steps) == 9
    assert {step.stage.named_by for step in steps} == {"identity", "content"}
