"""how fast it trains here, on made-up shards with random weights"""

from __future__ import annotations

import argparse
from pathlib import Path

from train import config
from train.bench import corpora, measure
from train.commands.numbers import positive


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", type=Path, metavar="CONFIG")
    names = [*corpora.CORPORA]
    sub.add_argument("--like", choices=names, help="the corpus whose lengths samples have; default: by CONFIG's name")
    sub.add_argument("--meta", action="store_true", help="run nothing: parameters, FLOPs, memory and floor alone")
    sub.add_argument(
        "--sizes", choices=("config", "tiny"), help="default: the config's; tiny where no GPU is to run it"
    )
    sub.add_argument("--steps", type=positive, default=10, metavar="N", help="steps that are timed; default 10")
    sub.add_argument("--warm-up", type=positive, default=3, metavar="N", help="steps before them; default 3")
    sub.add_argument("--samples", type=positive, metavar="N", help="samples of a step; default: the config's")
    sub.add_argument("--json", action="store_true", help="everything as JSON")


def run(options: argparse.Namespace) -> None:
    of = config.load(options.config)
    like = options.like or measure.named_like(options.config)
    how = measure.Options(like, options.meta, options.sizes, options.steps, options.warm_up, options.samples)
    if found := measure.report(of, how):
        measure.show(found, options.json)
