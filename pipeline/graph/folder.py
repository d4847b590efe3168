"""The files below a folder of this machine, with sizes and times: one look at each, and none of their bytes.

On a shared disk with millions of files this takes minutes, so it says on stderr how far it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from stages.download import Found
from stages.hash_files import times

_EVERY = 5.0  # seconds between two words of how far it is


def listed(root: Path, out: Path, name: str) -> Iterator[Found]:
    """Every file below `root`, named relative to it, without those below `out`.

    What this program writes is no data, even where it lies among them. `name`: the source's, for the progress.
    """
    skipped, told = out.resolve(), time.monotonic()
    waiting = [(root, "")]
    count = 0
    while waiting:
        folder, below = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                relative = below + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if Path(entry.path).resolve() != skipped:
                        waiting.append((Path(entry.path), f"{relative}/"))
                elif entry.is_file():
                    status = entry.stat()
                    yield Found(relative, status.st_size, times(status))
                    count += 1
                if time.monotonic() - told > _EVERY:
                    told = time.monotonic()
                    print(f"listing {name}: {count:,} files so far", file=sys.stderr, flush=True)
