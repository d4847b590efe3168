"""what a config comes to, before anything is trained

Steps, packs, mixture; estimates of memory and hours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from train import config, plan_report, trainer
from train.commands.numbers import above_zero, positive
from train.config import Config
from train.data.folders import AnyShards, open_shards
from train.distributed.processes import ALONE
from train.evaluate.during import Evaluation
from train.validation import Validation


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", type=Path, metavar="CONFIG")
    sub.add_argument("--tflops", type=above_zero, default=989.0, metavar="X", help="TFLOP/s of a device; default 989")
    sub.add_argument("--mfu", type=above_zero, default=0.4, metavar="X", help="share of them in use; default 0.4")
    sub.add_argument("--ranks", type=positive, default=1, metavar="N", help="devices; default 1")
    sub.add_argument("--json", action="store_true", help="everything as JSON")


def run(options: argparse.Namespace) -> None:
    of = config.load(options.config)
    shards = open_shards(of.data.shards, of.data.leave_out)
    made = trainer.make_plan(of, shards)
    _check_what_measures(of, shards)
    plan_report.show(plan_report.made(of, made, shards, options.tflops, options.mfu, options.ranks), options.json)


def _check_what_measures(of: Config, shards: AnyShards) -> None:
    """What `fit` would refuse of validation and of benchmarks is refused here, too."""
    if of.run.validation:
        Validation(of, shards.facts, shards.identity)
    if of.run.evaluate:
        Evaluation(of, shards.facts, shards.tokenizer, {}, ALONE)
