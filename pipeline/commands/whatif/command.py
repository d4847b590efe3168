"""The command `whatif`: its options, what it refuses, and the recipe as it ran beside the recipe as it would be.

Only sections of filters can be set; what they are compared by (pictures, n-grams, models) needs a run, and the filter
says so. Nothing is written but what `--ids` asks for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.commands.whatif import told
from pipeline.commands.whatif.judges import Judges
from pipeline.commands.whatif.moves import moves
from pipeline.graph.build import build
from pipeline.graph.content import Content
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.recipe.load import load
from pipeline.steps.table import STAGES
from schemas.strict import RecipeError, unknown

HELP = "rows and tokens gained and lost if a filter's limits were others, from the evidence of a finished run"
_DATA = "data."


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recipe", help="the YAML recipe, whose run is finished")
    parser.add_argument("--out", help="output folder, instead of run.out")
    text = "a limit as it would be, data.quality.min_image_side=56; as often as you like; run.KEY=VALUE as elsewhere"
    parser.add_argument("--set", action="append", default=[], metavar="data.FILTER.KEY=VALUE", dest="sets", help=text)
    parser.add_argument("--json", action="store_true", help="every number as JSON, instead of the table")
    text = "write every sample with its source, whether it is kept, and whether it would be"
    parser.add_argument("--ids", type=Path, metavar="FILE.parquet", help=text)
    parser.set_defaults(command=run)


def run(given: argparse.Namespace) -> int:
    """Judge again, compare, and show it."""
    if given.ids is not None and given.ids.suffix != ".parquet":
        raise RecipeError(f"--ids: got {given.ids}, wanted a file that ends in .parquet")
    changes, judges = opened(given.recipe, given.out, given.sets)
    if not judges.changed:
        same = "these settings change nothing: the recipe says so already"
        print(json.dumps({"settings": changes, "changed": []}) if given.json else same)
        return 0
    found = moves(judges, given.ids)
    print(json.dumps(told.to_json(changes, judges, found), indent=2)) if given.json else told.show(judges, found)
    return 0


def opened(recipe: str, out: str | None, sets: Sequence[str]) -> tuple[list[str], Judges]:
    """What would be changed, and all filters as they are and as they would be. Raises RecipeError, MissingInput."""
    changes = [text for text in sets if text.startswith(_DATA)]
    for text in changes:
        _check(text)
    if not changes:
        raise RecipeError("whatif: nothing to change; say what would be, e.g. --set data.quality.min_image_side=56")
    rest = [text for text in sets if not text.startswith(_DATA)]
    loaded = load(recipe, out, None, rest)
    loaded.need_sources("whatif")
    context = Context(loaded, Content(loaded))
    steps = build(context, STAGES)
    for step in steps:
        context.finished(step)
    other = Context(load(recipe, out, None, rest, changes), context.content)
    would_be = build(other, STAGES)
    _need_no_run(steps, would_be, changes)
    return changes, Judges(context, steps, other, would_be)


def _check(text: str) -> None:
    """Raise RecipeError for what isn't a filter's key."""
    key, sign, _ = text.removeprefix(_DATA).partition("=")
    section = key.split(".")[0]
    known = [stage.name for stage in STAGES.values() if stage.makes == "verdicts"]
    if not sign:
        raise RecipeError(f"--set {text}: wanted data.FILTER.KEY=VALUE")
    if section not in known:
        if section in STAGES or section in ("sources", "benchmarks", "tokenizer"):
            what = f"only what filters compare can be told without a run: data.{', data.'.join(known)}"
            raise RecipeError(f"--set {text}: data.{section} is no filter's section; {what}")
        raise RecipeError(f"--set {text}: {unknown('data', section, known)}")


def _need_no_run(before: Sequence[Step], after: Sequence[Step], changes: Sequence[str]) -> None:
    """Raise RecipeError where the settings reach a step that is no filter."""
    ran = {step.name: step for step in before}
    for step in after:
        known = ran.get(step.name)
        if known is None:
            raise RecipeError(f"{' '.join(changes)}: {step.name} didn't run; this needs a run of it")
        if step.stage.makes != "verdicts" and step.parameters != known.parameters:
            raise RecipeError(f"{' '.join(changes)}: {step.name} is made of it; this needs a run of {step.name}")
