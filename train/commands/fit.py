"""train from shards

Started again it continues, finished it does nothing. On N processes or GPUs:
`torchrun --nproc-per-node N -m train fit CONFIG`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from train import config, log, trainer
from train.distributed import processes


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", type=Path, metavar="CONFIG")


def run(options: argparse.Namespace) -> None:
    with processes.joined() as world:
        with world.agreed():
            of = config.load(options.config)
        summary = trainer.fit(of)
        if world.first:
            print(f"{log.in_words(summary)}; {Path(of.run.out) / summary.checkpoint}")
