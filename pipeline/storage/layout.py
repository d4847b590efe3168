"""What files in an output folder are called.

<out>/<step>/  part-00000.parquet rejected-00000.parquet     samples and rejects of ingest
               verdict-00000.parquet                         row i speaks of row i of the part of that number
               rows-00000.arrow                              the rows of a part without images, in pretokenise's
                                                             first phase
               shard-00000.arrow index-00000.parquet         pretokenise
               map-00000.json                                what lies where in the shard of that number
               part-00000.json                               the record of a finished task, written after its files
               run.json manifest.json                        circumstances; the record of the finished step, last
               <phase>/                                      files and records of an earlier phase, until the manifest

Numbers have five digits or more, so names are never put in order as text: `number_of` reads the number.
"""

from __future__ import annotations

import re
from pathlib import Path

STEP_FOLDER = re.compile(r"\d\d-.+-([0-9a-f]{8})")
RUN = "run.json"
FILES = "files.parquet"  # the list of a source's files, in its download step
FETCHED = "files"  # folder of fetched files, in the download step's own
INDEX = "index.parquet"
TOKENIZER = "tokenizer"
NEAR_MISSES = "near_misses.parquet"  # pairs that are almost duplicates, in the step that compares


def part(number: int) -> str:
    return f"part-{number:05d}.parquet"


def rejected(number: int) -> str:
    return f"rejected-{number:05d}.parquet"


def verdict(number: int) -> str:
    return f"verdict-{number:05d}.parquet"


def rows(number: int) -> str:
    return f"rows-{number:05d}.arrow"


def shard(number: int) -> str:
    return f"shard-{number:05d}.arrow"


def shard_map(number: int) -> str:
    return f"map-{number:05d}.json"


def index_part(number: int) -> str:
    return f"index-{number:05d}.parquet"


def record(number: int) -> str:
    return f"part-{number:05d}.json"


def is_a(kind: str, name: str) -> bool:
    """Whether a file of a step is a numbered one of this kind: "part", "rejected", "shard" ..."""
    return name.startswith(f"{kind}-")


def number_of(name: str) -> int:
    """The number in the name of a numbered file; names of other files are no numbers (ValueError)."""
    return int(Path(name).stem.rpartition("-")[2])


def records(folder: Path) -> list[Path]:
    """The records of finished tasks in a folder, in the order of their numbers."""
    return sorted(folder.glob("part-*.json"), key=lambda path: number_of(path.name))
