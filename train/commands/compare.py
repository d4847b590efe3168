"""two evaluations on the same questions: what changed, with a paired test"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from train import log
from train.evaluate import compare


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("first", type=Path, metavar="RUN_A", help="a folder that `evaluate` wrote")
    sub.add_argument("second", type=Path, metavar="RUN_B", help="another one")
    sub.add_argument(
        "--out", type=Path, metavar="FILE.json", help="everything as JSON, with all questions that changed"
    )


def run(options: argparse.Namespace) -> None:
    found = compare.compared(options.first, options.second)
    compare.show(found)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        log.replace(options.out, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
