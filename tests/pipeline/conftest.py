"""A small generated corpus, its tokenizer, and recipes on it; made once per test run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.graph.build import build
from pipeline.graph.content import Content
from pipeline.graph.context import Context
from pipeline.graph.stage import Stage, Step
from pipeline.quickstart import tokenizer
from pipeline.quickstart.corpus import write_corpus
from pipeline.recipe.load import load
from pipeline.recipe.types import Recipe
from pipeline.run import runner
from pipeline.run.runner import Executor, Serial
from pipeline.steps.table import STAGES
from tests.pipeline import tiny_corpus

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Corpus:
    """Where the raw data lies, and what is wrong with it."""

    folder: Path
    truth: dict[str, Any]

    @property
    def places(self) -> dict[str, str]:
        names = {name: str(self.folder / "raw" / name) for name in ("fine", "japanese", "llava")}
        return {
            **names,
            **dict.fromkeys(("held_out", "validation"), str(self.folder / "raw" / "benchmark")),
            "tokenizer": str(self.folder / "tokenizer"),
        }


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    truth = write_corpus(folder / "raw", seed=1, scale=0.05)
    tokenizer.train(folder / "raw", folder / "tokenizer")
    return Corpus(folder, truth)


MakeRecipe = Callable[..., Path]


def _quickstart() -> dict[str, Any]:
    """The quickstart's recipe with small parts, and a shard for each."""
    mapping: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text(encoding="utf-8"))
    mapping["data"]["ingest"]["rows_per_part"] = 40
    mapping["data"]["pretokenise"]["shard_bytes"] = 1
    return mapping


@pytest.fixture
def make_recipe(corpus: Corpus, tmp_path: Path) -> MakeRecipe:
    """A recipe file: the quickstart's, with small parts, changed by `edit(mapping)`."""

    def make(edit: Callable[[dict[str, Any]], object] | None = None, name: str = "recipe.yaml") -> Path:
        mapping = _quickstart()
        mapping["run"] = {"out": str(tmp_path / "out"), "locations": corpus.places}
        if edit:
            edit(mapping)
        return write_yaml(tmp_path / name, mapping)

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny corpus. Not to be written to."""
    folder = tmp_path_factory.mktemp("tiny") / "raw"
    tiny_corpus.write(folder)
    return folder


@pytest.fixture
def tiny_recipe(tiny: Path, tmp_path: Path) -> MakeRecipe:
    """A recipe file on the tiny corpus, changed by `edit(mapping)`."""

    def make(edit: Callable[[dict[str, Any]], object] | None = None, name: str = "recipe.yaml") -> Path:
        mapping = tiny_corpus.recipe(tiny, tmp_path / "out")
        if edit:
            edit(mapping)
        return write_yaml(tmp_path / name, mapping)

    return make


@pytest.fixture(scope="session")
def tiny_run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Context, list[Step]]:
    """One finished run on the tiny corpus: (recipe, context, steps). Not to be written to."""
    folder = tmp_path_factory.mktemp("tiny_run")
    path = write_yaml(folder / "recipe.yaml", tiny_corpus.recipe(tiny, folder / "out"))
    return (path, *run(path))


Table = Mapping[str, Stage]


def opened(path: Path, out: Path | None = None, table: Table = STAGES) -> tuple[Context, list[Step]]:
    """A recipe's context and steps."""
    loaded: Recipe = load(path, str(out) if out else None)
    context = Context(loaded, Content(loaded))
    return context, build(context, table)


def run(
    path: Path, out: Path | None = None, executor: Executor | None = None, table: Table = STAGES
) -> tuple[Context, list[Step]]:
    """Run what isn't finished, in this process."""
    context, steps = opened(path, out, table)
    runner.run(steps, context, executor or Serial())
    return context, steps


def do(
    path: Path, out: Path | None, stages: Sequence[str], executor: Executor | None = None
) -> tuple[Context, list[Step]]:
    """Run what isn't finished of some stages; their steps."""
    context, steps = opened(path, out)
    chosen = [step for step in steps if step.stage.name in stages]
    runner.run(chosen, context, executor or Serial())
    context.content.save()
    return context, chosen


@pytest.fixture(scope="session")
def finished_run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Context, list[Step]]:
    """One finished run of the quickstart recipe: (recipe, context, steps). Not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    mapping = _quickstart()
    mapping["run"] = {"out": str(folder / "out"), "locations": corpus.places}
    path = write_yaml(folder / "recipe.yaml", mapping)
    return (path, *run(path))


def manifests(out: Path, steps: Sequence[Step]) -> dict[str, bytes]:
    """Every byte that must be the same whatever the circumstances: manifests and part records.

    Not those of listings, which are named by the times of the files.
    """
    same = [step for step in steps if step.stage.name != "hash"]
    found = [p for step in same for p in sorted((out / step.folder).glob("*.json")) if p.name != "run.json"]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in found}


def write_yaml(path: Path, mapping: Any) -> Path:
    path.write_text(yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def write_json(path: Path, records: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
