"""Archives that were cut into numbered files, read as one without joining them on disk.

`x.tar.gz_part1 ... _part12`, `x_00 ...`, `x.zip.001 ...`, and split zips (`x.z01 ... x.zip`, whose last part has no
number). Order is by number, not by letter: part10 comes after part9. A number that is missing is an error.
"""

from __future__ import annotations

import io
import os
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, BinaryIO, cast

from stages.sources.records.streams import DataError

SPLIT_ZIP = re.compile(r"(?P<stem>.+)\.[zZ](?P<number>\d{2,})")
_NUMBERED = re.compile(r"(?P<stem>.+?)(?P<mark>[._-]?part[._-]?|[._-])(?P<number>\d+)")
_BUFFER = 64 * 1024


def join(files: Iterable[str], whole: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Files -> archives, each as its parts in order. `whole`: suffixes of names that are archives by themselves."""
    names = set(files)
    groups: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for name in sorted(names):
        found = SPLIT_ZIP.fullmatch(name)
        if found is None and not name.lower().endswith(whole):
            found = _NUMBERED.fullmatch(name)
        mark = "" if found is None else found.groupdict().get("mark", ".z")
        stem, number = (name, 0) if found is None else (found["stem"], int(found["number"]))
        if number in groups[stem, mark]:
            raise DataError(f"{name}: {groups[stem, mark][number]} has the same number; remove one of them")
        groups[stem, mark][number] = name
    joined = [_complete(stem, mark, parts, names) for (stem, mark), parts in groups.items()]
    lasts = {parts[-1] for parts in joined if len(parts) > 1}
    return sorted(parts for parts in joined if len(parts) > 1 or parts[0] not in lasts)


def _complete(stem: str, mark: str, parts: dict[int, str], names: set[str]) -> tuple[str, ...]:
    """The parts in order, a split zip's last among them. Raises DataError for a gap."""
    numbers = sorted(parts)
    missing = next((n for n in range(1 if mark == ".z" else min(1, numbers[0]), numbers[-1]) if n not in parts), None)
    if missing is not None:
        raise DataError(f"{stem}{mark}: part {missing} is missing beside {parts[numbers[-1]]}; fetch it")
    ordered = tuple(parts[number] for number in numbers)
    if mark != ".z":
        return ordered
    if f"{stem}.zip" not in names:
        raise DataError(f"{stem}.zip: missing beside {ordered[-1]}; it is the last part of the split zip, fetch it")
    return (*ordered, f"{stem}.zip")


class Joined(io.RawIOBase):
    """Several files as one seekable stream; `starts` is where each begins."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._files: list[int] = []
        sizes = []
        for path in paths:
            self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            sizes.append(os.fstat(self._files[-1]).st_size)
        self.starts = [0, *accumulate(sizes)][:-1]
        self.size, self._at = sum(sizes), 0

    @classmethod
    def open(cls, paths: Sequence[str]) -> tuple[BinaryIO, Joined]:
        """A buffered stream, and what lies under it. Raises DataError."""
        try:
            raw = cls(paths)
        except OSError as error:
            raise DataError(f"{error.filename}: not a readable archive ({error.strerror}); fetch it again") from None
        return cast(BinaryIO, io.BufferedReader(raw, _BUFFER)), raw

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self.size:
            return 0
        part = bisect_right(self.starts, self._at) - 1
        data = os.pread(self._files[part], len(buffer), self._at - self.starts[part])
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())
        super().close()
