"""Files that are whole or absent: written beside their place, flushed, then renamed into it.

A killed process leaves at most a `.tmp-` file, which the next run of the step removes. One process writes to an output
folder at a time: `lock` refuses a second one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp-"


class OutputBusy(ValueError):
    """Another run writes to this output folder."""


def commit(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary)`, then move the result to `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        write(temporary)
        flush([temporary])
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def flush(paths: Iterable[Path]) -> None:
    """Wait until the bytes of files are on the disk: before a record says so, for it may outlive a power cut."""
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            os.fsync(stream.fileno())


def commit_text(path: Path, text: str) -> None:
    """`commit` for UTF-8 text, line ends as given."""
    commit(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def clean(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink()


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Hold the output folder for one run. Raises OutputBusy if another process holds it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputBusy(f"{out}: can't be made a folder ({error.strerror}); give another --out") from None
    with (out / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise OutputBusy(f"{out}: process {holder} is writing here; wait for it or give another --out") from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
