"""Where a source's image files lie: folders, zips and tars, read by name and never unpacked.

An archive's names count as if it had been unpacked where it lies (`laion.tar` in `cultural` has `cultural/laion/1.jpg`)
or at the top. Names come from datasets and are not trusted: absolute names and `..` are refused as `image_missing`, and
so is what no listing has (links out of the source's folder, pipes, files that came later); a file above the byte cap as
`image_too_large` before it is read. A name that several places have is `image_ambiguous`, unless all have the same
bytes there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from stages.images.rules import BadImage
from stages.sources import file_names
from stages.sources.archives.split import join
from stages.sources.archives.zip_and_tar import COMPRESSED, WHOLE, TarImages, ZipImages, check_size, open_archive
from stages.sources.listing import Listed, Listing, path_of, read_whole
from stages.sources.records.streams import DataError

MAX_IMAGE_BYTES = 256 * 1024 * 1024


class Place(NamedTuple):
    """The files that are one archive, as they were listed, and the folder that holds it, relative to the source's;
    or, of the source's own `folder`, the folder relative to it, whose files the listing knows.
    """

    parts: tuple[str, ...]
    below: str = ""
    listed: tuple[Listed, ...] = ()
    folder: str | None = None


def places(root: Path, patterns: Iterable[str], files: Sequence[tuple[Any, ...]]) -> list[Place]:
    """The places that a source's `images` names, given its files (as Listed or Found). Raises DataError."""
    found = []
    for pattern in patterns:
        if (root / pattern).is_dir() and not any(file[0] == pattern for file in files):
            found.append(Place((str(root),), folder="" if pattern == "." else pattern))
            continue
        matching = {file[0]: Listed(*file) for file in files if fnmatchcase(file[0], pattern)}
        if not matching:
            raise DataError(f"{root / pattern}: no such folder or archive")
        found += [_archive(root, [matching[part] for part in parts]) for parts in join(matching, WHOLE)]
    return found


def _archive(root: Path, parts: Sequence[Listed]) -> Place:
    name = parts[0].file
    if name.lower().endswith(COMPRESSED):
        raise DataError(f"{name}: no image can be found in a compressed tar without reading all before it; unpack it")
    if len(parts) == 1 and not name.lower().endswith(WHOLE) and not name[-1:].isdigit():
        raise DataError(f"{name}: neither a folder nor a zip or tar; name the folder, not the files in it")
    below = PurePosixPath(name).parent.as_posix()
    return Place(tuple(str(path_of(root, part.file)) for part in parts), "" if below == "." else below, tuple(parts))


class ImageFiles:
    """Image bytes by name, in some places; None: every image is inline. A path is the one archive.

    `listing`: of the source's files; in folders there is what was listed and nothing else.
    """

    def __init__(
        self,
        where: Path | Sequence[Place] | None,
        max_bytes: int = MAX_IMAGE_BYTES,
        listing: Listing | None = None,
    ) -> None:
        found = [Place((str(where),))] if isinstance(where, Path) else list(where or ())
        self._places = [(place.below, _opened(place, max_bytes, listing)) for place in found]

    def read(self, name: str) -> bytes:
        """The bytes of one image. Raises BadImage."""
        if name.lower().startswith(("http://", "https://")):
            raise BadImage("image_missing", f"{name!r} is a URL; URLs need downloading first")
        if not self._places:
            raise BadImage("image_missing", f"{name!r} has no bytes, and the source names no folder of images")
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute():
            raise BadImage(
                "image_missing", f"{name!r} is an absolute path, and never followed; name it from `images` on"
            )
        if not parts or ".." in parts or "\0" in name:
            raise BadImage("image_missing", f"{name!r} is no name below `images`: no `..` is followed")
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


def _opened(place: Place, max_bytes: int, listing: Listing | None) -> _Folder | ZipImages | TarImages:
    if place.folder is None:
        return open_archive(place.parts, max_bytes)
    assert listing is not None
    return _Folder(place.parts[0], place.folder, max_bytes, listing)


class _Folder:
    """The listed files below a folder of a source's, each proven to be what was listed. Raises Changed."""

    def __init__(self, root: str, folder: str, max_bytes: int, listing: Listing) -> None:
        self._root, self._folder, self._max_bytes, self._listing = root, folder, max_bytes, listing

    def read(self, name: str) -> bytes | None:
        file = self._listing.find(file_names.listed(PurePosixPath(self._folder, name).as_posix()))
        if file is None:
            return None
        check_size(name, file.size, self._max_bytes)
        return read_whole(self._root, file)

    def close(self) -> None:
        """Nothing stays open."""
