"""What a part has fetched so far, so that a killed run loses nothing: bytes as they arrived, one line about each.

`journal-NNNNN.bytes` grows by every image, then `journal-NNNNN.jsonl` by the line that says where it lies and which
sha256 it has; a failure that no later try can mend is a line as well. Neither is flushed to the disk: the kill of a
process loses nothing that was written, and after the loss of a whole machine the hashes tell what is there. The next
run takes up every line whose bytes are right. The files of the finished part are written from it in the order of the
rows and the journal is removed, so they are the same bytes as those of a run that nobody ended.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import strict


@dataclass(frozen=True)
class Lies:
    """Where the bytes of an image are, in a journal or a pack."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)


@dataclass(frozen=True)
class Outcome:
    """What an address gave: an image, or the reason why there is none. `sha256` and `size`: of what came whole."""

    http_status: int | None = None
    sha256: str | None = None
    size: int | None = None
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class _Line:
    url: str
    outcome: Outcome
    offset: int | None = None


class Journal:
    """The journal of one part; `known` has what an earlier run left. Threads may add to it."""

    def __init__(self, folder: Path, number: int) -> None:
        self._bytes = folder / f"journal-{number:05d}.bytes"
        self._text = folder / f"journal-{number:05d}.jsonl"
        self._lock = threading.Lock()
        self.known: dict[str, tuple[Outcome, Lies | None]] = {}
        self._size = length = 0
        for line, end in self._lines():
            length = end
            if line.offset is not None:
                self._size = line.offset + (line.outcome.size or 0)
            self._remember(line)
        # what follows the last line that can be used was cut by whatever ended the run
        self._data, self._notes = (path.open("ab", buffering=0) for path in (self._bytes, self._text))
        self._data.truncate(self._size)
        self._notes.truncate(length)

    def add(self, url: str, outcome: Outcome, data: bytes | None = None) -> None:
        """Write down what an address gave: first the bytes, then the line."""
        with self._lock:
            line = _Line(url, outcome, self._size if data is not None else None)
            if data is not None:
                _write(self._data, data)
                self._size += len(data)
            _write(self._notes, (json.dumps({**vars(line), "outcome": vars(outcome)}) + "\n").encode())
            self._remember(line)

    def close(self) -> None:
        self._data.close()
        self._notes.close()

    def remove(self) -> None:
        """The part is finished."""
        self.close()
        self._bytes.unlink()
        self._text.unlink()

    def _remember(self, line: _Line) -> None:
        lies = None if line.offset is None else Lies(self._bytes, line.offset, line.outcome.size or 0)
        self.known[line.url] = (line.outcome, lies)

    def _lines(self) -> Iterator[tuple[_Line, int]]:
        """The lines of an earlier run up to the first that is cut or whose bytes are not there; where each one ends."""
        if not (self._text.is_file() and self._bytes.is_file()):
            return
        end = 0
        for text in self._text.read_bytes().splitlines(keepends=True):
            end += len(text)
            try:
                line = strict.build(_Line, json.loads(text))
            except ValueError:
                return
            if line.offset is not None:
                data = Lies(self._bytes, line.offset, line.outcome.size or 0).read()
                if hashlib.sha256(data).hexdigest() != line.outcome.sha256:
                    return
            yield line, end


def _write(stream: Any, data: bytes) -> None:
    """All of it: an unbuffered file may take less at a time."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]
