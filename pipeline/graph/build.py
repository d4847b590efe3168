"""Recipe + content -> steps, each with its identity and folder.

Identity = fingerprint(stage, version, resolved parameters, identities of the inputs). The folder is
`<number>-<stage>[-<source>]-<first 8 digits>`, directly under `out`, so recipes that share their beginnings share the
work. What reads files or images is one step per source, so a new source costs only itself; everything after sees the
parts of all sources in the recipe's order. A recipe of benchmarks alone ends with their samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.graph.context import Context
from pipeline.graph.stage import Stage, Step
from schemas.strict import RecipeError, unknown

_OF_ONE_SOURCE = ("files", "images", "samples")


def build(context: Context, table: Mapping[str, Stage]) -> list[Step]:
    """Every step of a recipe in running order; those that are known by now have their identity."""
    _check_stops(context.recipe.run.stop_if, table)
    steps: list[Step] = []
    for stage in table.values():
        if context.recipe.data.sources or stage.makes in _OF_ONE_SOURCE:
            steps += stage.steps(stage, context, tuple(steps))
    for step in steps:
        step.resolve(context)
    return steps


def foresee(steps: Iterable[Step], context: Context) -> None:
    """Raise RecipeError for what would stop one of the steps that are to do, where it can be known by now."""
    for step in steps:
        if context.manifest(step) is None:
            step.stage.foresee(step, context)


def _check_stops(stop_if: Mapping[str, float], table: Mapping[str, Stage]) -> None:
    known = [f"{stage.name}.{reason}" for stage in table.values() for reason in stage.reasons]
    for reason in stop_if:
        if reason not in known:
            raise RecipeError(unknown("run.stop_if", reason, known))
