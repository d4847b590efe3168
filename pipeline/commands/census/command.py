"""The command `census`: its options, what it counts from, and where its numbers go.

Recipes stand side by side; those that share ingested parts share the reading. Nothing is written into an output folder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pipeline.commands.census import headers, ingested, plots, subsets, tables
from pipeline.commands.census.budget import Plan
from pipeline.commands.census.found import Found
from pipeline.commands.census.told import to_json
from pipeline.graph.build import build
from pipeline.graph.content import Content, check_places
from pipeline.graph.context import Context
from pipeline.recipe.load import load, located
from pipeline.recipe.types import Recipe
from pipeline.steps.table import STAGES
from pipeline.storage.commit import commit_text
from schemas.identity import canonical
from schemas.manifest import hash_file
from schemas.shown import shown
from schemas.strict import RecipeError, brief
from stages.census import FROM
from stages.chat import ChatFormat

HELP = "text, image and target tokens and tiles by source and language, exact, from text and image sizes alone"
_PLAN = {
    "steps": (int, "N", "steps of the training run; epochs follow"),
    "epochs": (float, "X", "epochs of the training run (1); steps follow"),
    "batch_tokens": (int, "N", "tokens of a step"),
    "batch_samples": (int, "N", "rows of a step, instead"),
    "tokens_per_second": (float, "X", "of the whole machine, in training; hours follow"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="YAML recipes, side by side")
    parser.add_argument("--out", help="output folder, instead of run.out")
    parser.add_argument("--set", action="append", default=[], metavar="run.KEY=VALUE", dest="sets")
    text = f"{FROM[0]}: what is ingested (default); {FROM[1]}: raw files, sizes by image headers; or a CSV of subsets"
    parser.add_argument("--from", default=FROM[0], metavar=f"{'|'.join(FROM)}|TABLE.csv", dest="basis", help=text)
    parser.add_argument("--assume", type=Path, metavar="FILE.yaml", help="what a CSV of subsets doesn't say")
    for name, (kind, metavar, what) in _PLAN.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=what)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there")
    parser.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="draw lengths, sources and languages there, as SVG"
    )
    parser.set_defaults(command=run)


def run(given: argparse.Namespace) -> int:
    """Count, and show it."""
    plan = Plan(**{name: getattr(given, name) for name in _PLAN})
    is_table = given.basis.endswith(".csv")
    if not is_table and given.basis not in FROM:
        raise RecipeError(f"--from: got {brief(given.basis)}, wanted {', '.join(FROM)} or a file that ends in .csv")
    if given.assume is not None and not is_table:
        raise RecipeError("--assume: is for a census --from TABLE.csv; all others assume nothing")
    recipes = _loaded(given.recipes, given.out, given.sets)
    assumed = subsets.assumptions(given.assume) if is_table else None
    if assumed is None:
        found = _counted(recipes, given.recipes, given.basis)
    else:
        found = _estimated(recipes, given.recipes, Path(given.basis), assumed)
    tables.show(found, plan)
    if assumed is not None:
        print(f"an estimate, not a count; assumed: {canonical(assumed.told())}")
    _write(given, found, plan, assumed)
    return 0


def _loaded(paths: Sequence[str], out: str | None, sets: Sequence[str]) -> list[Recipe]:
    """The recipes, of sources; a location that is set is one of those that have such a source. Raises RecipeError."""
    recipes = [load(paths[0], out, None, sets)] if len(paths) == 1 else _side_by_side(paths, out, sets)
    for recipe in recipes:
        recipe.need_sources("census")
    return recipes


def _side_by_side(paths: Sequence[str], out: str | None, sets: Sequence[str]) -> list[Recipe]:
    prefix = "run.locations."
    places = {text: text.partition("=")[0].removeprefix(prefix) for text in sets if text.startswith(prefix)}
    known = [located(path) for path in paths]
    for text, name in places.items():
        if not any(name in names for names in known):
            raise RecipeError(f"--set {text}: none of the recipes has a source {name}")
    recipes = []
    for path, names in zip(paths, known, strict=True):
        mine = [text for text in sets if places.get(text) is None or places[text] in names]
        try:
            recipes.append(load(path, out, None, mine))
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    return recipes


def _names(paths: Sequence[str]) -> list[str]:
    """What recipes are called: their files' names, with as much of the folder as tells them apart."""
    stems = [Path(path).stem for path in paths]
    return [stem if stems.count(stem) == 1 else str(path) for stem, path in zip(stems, paths, strict=True)]


def _counted(recipes: Sequence[Recipe], paths: Sequence[str], basis: str) -> list[Found]:
    opened: list[ingested.Opened] = []
    for recipe in recipes:
        check_places(recipe)
        context = Context(recipe, Content(recipe))
        opened.append((context, build(context, STAGES)))
    found = []
    for one, name, path in zip(opened, _names(paths), paths, strict=True):
        step = ingested.shards_of(one)
        found.append(Found(name, path, dict(step.parameters), step.identity, basis))
    workers = recipes[0].run.workers
    if basis == FROM[0]:
        ingested.census(opened, found, workers)
        return found
    with tempfile.TemporaryDirectory(prefix="census-") as scratch:
        headers.census(opened, found, workers, Path(scratch))
    return found


def _estimated(
    recipes: Sequence[Recipe], paths: Sequence[str], table: Path, assumed: subsets.Assumptions
) -> list[Found]:
    """From a table; of a recipe's locations only the tokenizer's is asked."""
    rows, found = subsets.table(table), []
    for recipe, name, path in zip(recipes, _names(paths), paths, strict=True):
        folder, params = Path(recipe.run.locations["tokenizer"]).expanduser(), recipe.data.shards
        chat = ChatFormat.load(folder, params.tokens, params.chat)
        model = {**asdict(params), "tokenizer": hash_file(folder / "tokenizer.json")}
        tally = subsets.estimate(rows, assumed, chat, params)
        found.append(Found(name, path, model, "", f"an ESTIMATE from {table.name}; nothing is dropped", tally))
    return found


def _write(given: argparse.Namespace, found: Sequence[Found], plan: Plan, assumed: subsets.Assumptions | None) -> None:
    files: dict[Path, str] = {}
    if given.json is not None:
        files[given.json] = to_json(found, plan, given.basis, None if assumed is None else assumed.told())
    if given.plots is not None:
        files |= {given.plots / name: drawn for name, drawn in plots.plots(found).items()}
    for path, text in files.items():
        try:
            commit_text(path, text)
        except OSError as error:
            raise RecipeError(f"{path}: can't be written ({error.strerror or error})") from None
        print(shown(str(path)))
