"""Where a source's image files lie: folders, zips and tars, read by name and never unpacked.

An archive's names count as if it had been unpacked where it lies (`laion.tar` in `cultural` has `cultural/laion/1.jpg`)
or at the top. Names come from datasets and are not trusted: absolute names, `..`, and links are refused as
`image_missing`, and a file above the byte cap as `image_too_large` before it is read. A name that several places have
is `image_ambiguous`, unless all have the same bytes there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stages.images.rules import BadImage
from stages.sources.archives.split import join
from stages.sources.archives.zip_and_tar import COMPRESSED, WHOLE, TarImages, ZipImages, check_size, open_archive
from stages.sources.records.streams import DataError

MAX_IMAGE_BYTES = 256 * 1024 * 1024


class Place(NamedTuple):
    """A folder, or the files that are one archive; `below` is the archive's folder, relative to the source's."""

    parts: tuple[str, ...]
    below: str = ""


def places(root: Path, patterns: Iterable[str], files: Iterable[str]) -> list[Place]:
    """The places that a source's `images` names, given its files' names. Raises DataError."""
    names, found = sorted(files), []
    for pattern in patterns:
        if (root / pattern).is_dir():
            found.append(Place((str(root / pattern),)))
            continue
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            raise DataError(f"{root / pattern}: no such folder or archive")
        found += [_archive(root, parts) for parts in join(matching, WHOLE)]
    return found


def _archive(root: Path, parts: tuple[str, ...]) -> Place:
    name = parts[0]
    if name.lower().endswith(COMPRESSED):
        raise DataError(f"{name}: no image can be found in a compressed tar without reading all before it; unpack it")
    if len(parts) == 1 and not name.lower().endswith(WHOLE) and not name[-1:].isdigit():
        raise DataError(f"{name}: neither a folder nor a zip or tar; name the folder, not the files in it")
    below = PurePosixPath(name).parent.as_posix()
    return Place(tuple(str(root / part) for part in parts), "" if below == "." else below)


class ImageFiles:
    """Image bytes by name, in some places; None: every image is inline. A path is the one place."""

    def __init__(self, where: Path | Sequence[Place] | None, max_bytes: int = MAX_IMAGE_BYTES) -> None:
        found = [Place((str(where),))] if isinstance(where, Path) else list(where or ())
        self._places = [(place.below, _opened(place, max_bytes)) for place in found]

    def read(self, name: str) -> bytes:
        """The bytes of one image. Raises BadImage."""
        if name.lower().startswith(("http://", "https://")):
            raise BadImage("image_missing", f"{name!r} is a URL; URLs need downloading first")
        if not self._places:
            raise BadImage("image_missing", f"{name!r} has no bytes, and the source names no folder of images")
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\0" in name:
            raise BadImage("image_missing", f"{name!r} leads out of the folder of images")
        found = [data for below, place in self._places for data in _candidates(place, below, name)]
        if not found:
            raise BadImage("image_missing", f"{name[:80]!r} is not among the images")
        if any(data != found[0] for data in found[1:]):
            raise BadImage("image_ambiguous", f"{name!r} stands for different files in {len(found)} places")
        return found[0]

    def close(self) -> None:
        for _, place in self._places:
            place.close()


def _candidates(place: _Folder | ZipImages | TarImages, below: str, name: str) -> list[bytes]:
    """What a place has under a name, counted from the top or from the archive's own folder."""
    names = [name, name.removeprefix(f"{below}/")] if below and name.startswith(f"{below}/") else [name]
    return [data for data in map(place.read, names) if data is not None]


def _opened(place: Place, max_bytes: int) -> _Folder | ZipImages | TarImages:
    folder = Path(place.parts[0])
    archive = len(place.parts) > 1 or folder.is_file() or folder.name.lower().endswith(WHOLE)
    return open_archive(place.parts, max_bytes) if archive else _Folder(folder.resolve(), max_bytes)


class _Folder:
    """Files below a folder; links count by where they lead."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root, self._below, self._max_bytes = str(root), f"{root}".rstrip(os.sep) + os.sep, max_bytes

    def read(self, name: str) -> bytes | None:
        try:  # texts and not Paths, for this is done once an image
            path = os.path.realpath(os.path.join(self._root, name))  # noqa: PTH118
            found = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            return None
        # a name too long for the file system, a link to itself, a name without UTF-8 (ValueError)
        except (OSError, ValueError) as error:
            raise BadImage("image_missing", f"{name[:80]!r}: {getattr(error, 'strerror', None) or error}") from None
        if not path.startswith(self._below) or not stat.S_ISREG(found.st_mode):
            return None
        check_size(name, found.st_size, self._max_bytes)
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123
            return stream.read()

    def close(self) -> None:
        """Nothing stays open."""
