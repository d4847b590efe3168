"""`python -m pipeline.quickstart [--out FOLDER] [--split NAME]`: raw data in, a trained model's answers out.

Five moves, each shown as it runs and each skipped or continued when it was done before: write the corpus, train a
tokenizer, run the pipeline and its report, train the model, ask it about held-out pictures. Ends with the table of what
went in, what was left out and why, and what came out.

Corpus and training config were tuned on the split `validation` alone; `test` is what the model is judged by.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from pipeline import cli
from pipeline.commands import funnel
from pipeline.commands.terminal import plain
from pipeline.graph.build import build
from pipeline.graph.content import Content
from pipeline.graph.context import Context
from pipeline.quickstart import tokenizer
from pipeline.quickstart.corpus import write_corpus
from pipeline.quickstart.raw import SOURCES, SPLITS
from pipeline.recipe.bundled import find
from pipeline.recipe.load import load
from pipeline.steps.table import STAGES
from schemas import yaml_file

RECIPE = Path("configs/quickstart.yaml")
TRAINING = Path("configs/quickstart_train.yaml")
WANTED = 0.95
SCORES = "scores"
BENCHMARKS = {"test": "held_out", "validation": "validation"}  # by split, as the recipe calls them


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the quickstart in the current folder; 0 if enough of the held-out questions are answered right."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.quickstart", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/quickstart"))
    parser.add_argument("--split", choices=SPLITS, default="test", help="whose questions; validation is for tuning")
    options = parser.parse_args(arguments)
    out: Path = options.out
    started = time.monotonic()
    prepare(out)
    sets = [f"run.locations.{name}={place}" for name, place in places(out).items()]
    given = [str(RECIPE), "--out", str(out), *(word for text in sets for word in ("--set", text))]
    for command in ("run", "report"):
        _title(f"python -m pipeline {command} {RECIPE}")
        if code := cli.main([command, *given]):
            return code
    training = training_config(out)
    moves: dict[str, list[Path | str]] = {"fit": [], "evaluate": _asked(out, options.split)}
    for command, rest in moves.items():
        _title(f"python -m train {command} {training}")
        code = subprocess.run(
            [sys.executable, "-m", "train", command, str(training), *map(str, rest)], check=False
        ).returncode
        if code:
            return code
    return _close(out, sets, options.split, time.monotonic() - started)


def prepare(out: Path) -> None:
    """Write the raw corpus and the tokenizer, unless they are there."""
    done = out / "raw" / "truth.json"
    if not done.is_file():
        _title("writing the corpus: pictures of shapes, charts and signs, with defects planted among them")
        truth = write_corpus(out / "raw")
        print(f"{sum(truth['rows_in'].values()):,} rows in {out / 'raw'}; what is wrong with them is in {done.name}")
    if not (out / "tokenizer" / "tokenizer.json").is_file():
        tokenizer.train(out / "raw", out / "tokenizer")


def places(out: Path) -> dict[str, Path]:
    """Where the recipe's sources and tokenizer lie."""
    folders = {name: out / "raw" / name for name in SOURCES}
    benchmarks = dict.fromkeys(BENCHMARKS.values(), out / "raw" / "benchmark")
    return {**folders, **benchmarks, "tokenizer": out / "tokenizer"}


def training_config(out: Path) -> Path:
    """The training config with this run's folders filled in, written beside its results."""
    config = yaml_file.read(find(TRAINING))
    config["data"]["shards"], config["run"]["out"] = str(out), str(out / "model")
    path = out / "train.yaml"
    path.write_text(yaml_file.dump(config), encoding="utf-8")
    return path


def _asked(out: Path, split: str) -> list[Path | str]:
    """The split as the pipeline ingested it."""
    return ["--benchmarks", out, "--only", BENCHMARKS[split], "--out", out / SCORES]


def _close(out: Path, sets: Sequence[str], split: str, seconds: float) -> int:
    console = plain()
    loaded = load(RECIPE, str(out), None, sets)
    console.rule(Text("done", "bold"))
    context = Context(loaded, Content(loaded))
    funnel.show(funnel.funnel(build(context, STAGES), context), console)
    fit = _read(out / "model" / "summary.json")
    found = _read(out / SCORES / BENCHMARKS[split] / "summary.json")
    console.print(
        f"training loss {fit['first_loss']:.3f} -> {fit['last_loss']:.3f}, mean of the first and of the last "
        f"{fit['steps_of_loss']} steps",
    )
    console.print(
        f"{split} split: {found['score']:.1%} of {found['n']} answers about held-out pictures are exactly right "
        f"(wanted {WANTED:.0%})",
    )
    for what, path in (
        ("report", out / "report.html"),
        ("checkpoint", out / "model"),
        ("answers", out / SCORES / "results.html"),
    ):
        console.print(f"{what}: {path}", soft_wrap=True)
    console.print(f"{seconds:.0f} s in all")
    if found["score"] < WANTED:
        print(f"error: {found['score']:.1%} is below {WANTED:.0%}: the model did not learn", file=sys.stderr)
        return 1
    return 0


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _title(text: str) -> None:
    print(f"\n=== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
