"""score a model on ingested benchmarks

Answers, scores, a Markdown table and a page to look at, in one folder. Started again it goes on; finished it only
counts again, as when a judge's verdicts come.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from train.commands.numbers import positive
from train.evaluate import benchmark, judge, results, runner, table
from train.evaluate.answers_file import Row
from train.evaluate.runner import How
from train.inference.answerer import SLOTS, Answerer
from train.inference.conversation import Answers
from train.inference.identity import identity
from train.inference.opened import located

_EVERY = 100


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", metavar="MODEL", help="a training config, a run's folder, a checkpoint, or another model")
    places = "output folders of the pipeline, or ingested benchmarks in them"
    sub.add_argument("--benchmarks", type=Path, nargs="+", required=True, metavar="FOLDER", help=places)
    sub.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these of the benchmarks")
    sub.add_argument("--limit", type=positive, metavar="N", help="only the first N questions of each")
    sub.add_argument("--out", type=Path, metavar="DIR", help="default: evaluation-NAME beside the model")
    rotations = "ask each question of options once per rotation; right only if all are"
    sub.add_argument("--rotations", action="store_true", help=rotations)
    slots = f"answers side by side; default {SLOTS}"
    sub.add_argument("--slots", type=positive, default=SLOTS, metavar="N", help=slots)
    sub.add_argument("--trust-remote-code", action="store_true", help="run code that comes with an upstream model")
    verdicts = "a judge's verdicts on judge-requests.jsonl"
    sub.add_argument("--judge-verdicts", type=Path, metavar="FILE", help=verdicts)


def run(options: argparse.Namespace) -> None:
    found = benchmark.find(options.benchmarks, options.only)
    verdicts = judge.read(options.judge_verdicts) if options.judge_verdicts else {}
    how = How(options.limit, options.rotations, verdicts)
    folder = located(options.model, options.trust_remote_code)
    model, out = identity(folder), options.out or _beside(options.model, folder)
    once = functools.cache(lambda: _opened(options.model, options.slots, options.trust_remote_code))
    of = [runner.evaluate(once, model, one, out, how, _Progress(one.name)) for one in found]
    table.show(of)
    print("; ".join(f"{path.name}: {path}" for path in results.write(out, model, of)))


def _opened(place: str, slots: int, code: bool) -> Answers:
    return Answerer.open(place, slots, code)


def _beside(place: str, folder: Path) -> Path:
    """Where the scores of a model go if nobody says; of one of the Hub here, and not into the Hub's cache."""
    name = f"evaluation-{folder.name}"
    return folder.parent / name if Path(place).expanduser().exists() else Path(name)


class _Progress:
    """A line now and then, so that a long benchmark shows that it goes on."""

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0

    def __call__(self, row: Row) -> None:
        self.count += 1
        if self.count % _EVERY == 0:
            print(f"{self.name}: {self.count:,} answers", flush=True)
