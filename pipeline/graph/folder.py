"""The files below a folder of this machine, with sizes and times: one look at each, and none of their bytes.

Links inside the folder are followed, and what they lead to is listed under the link's name too. A link that leads back
to a folder that holds it ends there. One that leads out of the folder is followed only if the recipe says so
(`follow_links`). Whatever is left out, and whatever lies outside, is named: nothing goes without a word.

On a shared disk with millions of files this takes minutes, so it says on stderr how far it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.storage import layout
from schemas.manifest import MANIFEST
from schemas.shown import shown
from schemas.strict import RecipeError
from stages.download import Found
from stages.sources import file_names
from stages.sources.listing import times

_EVERY = 5.0  # seconds between two words of how far it is
_NAMES = 32  # so many names a folder may have by links: links to folders of links grow without end
_SHOWN = 3

LED_OUT = "links out of the folder, left out; follow_links: true in the source follows them"


@dataclass
class Links:
    """Names that are not files or folders of the data and where they lead, by what became of them."""

    kinds: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, kind: str, name: str, target: str = "") -> None:
        self.kinds.setdefault(kind, {})[name] = target

    def led_out(self, name: str) -> str:
        """The link out of the folder that was left out and is, or holds, what this name means; "" if none."""
        left = self.kinds.get(LED_OUT, {})
        return next((f"{link} -> {left[link]}" for link in left if _within(name, link)), "")

    def notes(self) -> Iterator[str]:
        """A line for each kind, for a person."""
        for kind, names in self.kinds.items():
            first = [f"{name} -> {names[name]}" if names[name] else name for name in sorted(names)[:_SHOWN]]
            some = ", ".join(first) + (", ..." if len(names) > _SHOWN else "")
            yield f"{kind} ({len(names):,}): {some}"


class _Waiting(NamedTuple):
    """A folder to be looked at. `real`: where it lies; `trail`: where the links lie that led here; `outside`: whether
    one of them led out."""

    real: str
    below: str
    trail: tuple[str, ...] = ()
    outside: bool = False


def listed(root: Path, out: Path, name: str, follow: bool = False) -> tuple[list[Found], Links]:
    """Every file below `root`, named relative to it, without what this program wrote there; and what is to be said.

    That is all of `out`, where it lies among the data, and step folders: those of `out` itself, where the data lie in
    it (the quickstart's do), and those of others, which are named. `name`: the source's, for the progress.
    """
    walk = _Walk(root, out, name, follow)
    return list(walk.files()), walk.links


class _Walk:
    def __init__(self, root: Path, out: Path, name: str, follow: bool) -> None:
        self._root, self._out, self._name, self._follow = os.path.realpath(root), os.path.realpath(out), name, follow
        self._names: Counter[str] = Counter()
        self._told, self._count = time.monotonic(), 0
        self.links = Links()

    def files(self) -> Iterator[Found]:
        waiting = [_Waiting(self._root, "")]
        while waiting:
            folder = waiting.pop()
            with os.scandir(folder.real) as entries:
                for entry in entries:
                    yield from self._entry(entry, folder, waiting)

    def _entry(self, entry: os.DirEntry[str], folder: _Waiting, waiting: list[_Waiting]) -> Iterator[Found]:
        name = folder.below + file_names.listed(entry.name)
        trail, outside, real = folder.trail, folder.outside, os.path.join(folder.real, entry.name)  # noqa: PTH118
        if entry.is_symlink():
            link, real = real, os.path.realpath(real)
            outside = outside or not _within(real, self._root)
            if not self._leads(name, real, outside):
                return
            trail = (*trail, folder.real)
            if entry.is_dir() and self._loops(name, link, real, trail):
                return
        if entry.is_dir():
            if not self._ours(name, real):
                waiting.append(_Waiting(real, f"{name}/", trail, outside))
        elif entry.is_file():
            status = entry.stat()
            yield Found(name, status.st_size, times(status))
            self._tell()
        else:
            self.links.add("neither files nor folders, left out", name)

    def _ours(self, name: str, real: str) -> bool:
        """Whether a folder is what this program wrote."""
        if self._out != self._root and _within(self._out, self._root) and _within(real, self._out):
            return True
        folder = Path(real)
        if not layout.STEP_FOLDER.fullmatch(folder.name):
            return False
        if str(folder.parent) == self._out:
            return True
        if not (folder / MANIFEST).is_file():
            return False
        self.links.add("folders that this program wrote, left out", name)
        return True

    def _leads(self, name: str, real: str, outside: bool) -> bool:
        """Whether a link is followed, as far as where it leads says."""
        if not os.path.exists(real):  # noqa: PTH110
            self.links.add("links that lead nowhere, left out", name)
            return False
        if outside:
            self.links.add("links out of the folder, followed" if self._follow else LED_OUT, name, real)
        return self._follow or not outside

    def _loops(self, name: str, link: str, real: str, trail: tuple[str, ...]) -> bool:
        """Whether a link leads back to a folder that holds it, or holds a link that led here."""
        if any(_within(place, real) for place in trail):
            self.links.add("links back to a folder that holds them, which end there", name, real)
            return True
        self._names[real] += 1
        if self._names[real] > _NAMES:
            where = f"run.locations.{self._name}: {shown(link)}"
            raise RecipeError(f"{where}: links give {shown(real)} more than {_NAMES} names; remove some of them")
        return False

    def _tell(self) -> None:
        self._count += 1
        if time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            print(f"listing {self._name}: {self._count:,} files so far", file=sys.stderr, flush=True)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
