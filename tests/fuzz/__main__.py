"""Random recipes, records and folders for as long as one likes: `make fuzz`, ten minutes.

    python -m tests.fuzz [--minutes 10] [--seed N] [--jobs 2] [--keep]

Each seed is printed with what came of it; a failure with all that was seen, and the seed brings it back. Ends with 1
if there was one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzz import case
from tests.fuzz.command import warm


def main() -> int:
    options = _options()
    warm()
    until = time.monotonic() + 60 * options.minutes
    base = int(time.time()) if options.seed is None else options.seed
    ends: Counter[str] = Counter()
    number = 0
    while number == 0 or (options.seed is None and time.monotonic() < until):
        seed = base + number
        end = one(seed, options.keep)
        ends[end.split(":")[0]] += 1
        print(f"seed {seed}: {end}", flush=True)
        number += 1
    print(", ".join(f"{count} {end}" for end, count in ends.most_common()))
    return int(ends["FAILED"] > 0)


def one(seed: int, keep: bool) -> str:
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{seed}-"))
    try:
        return case.run(seed, folder)
    except Exception:  # noqa: BLE001  # the next seed is another matter
        keep = True
        return f"FAILED: {traceback.format_exc()}\nthe folder is kept: {folder}"
    finally:
        if not keep:
            shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, help="this one alone, and keep its folder")
    parser.add_argument("--keep", action="store_true", help="keep the folders of all")
    options = parser.parse_args()
    options.keep |= options.seed is not None
    return options


if __name__ == "__main__":
    os.environ["COLUMNS"] = "120"
    sys.exit(main())
