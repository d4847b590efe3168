"""Do the images that records name lie where the declaration says? Asked of some records before all are read.

A wrong folder would make a reject of every row with an image, one by one, and a set that is text in part would end well
all the same. So some records from all over the files are looked at. Where none of their images can be found, one line
says why: an absolute path, an address, a source without `images`, or another folder that has a file of that name.
Archives are not opened for that; what is missing in them is said when the rows were read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

from stages.sources import file_names
from stages.sources.archives.image_files import Place
from stages.sources.declaration import Source
from stages.sources.one_record import adapted, wanted
from stages.sources.records.slices import Slice, compressed, kind, read
from stages.sources.records.streams import DataError
from stages.sources.shapes.draft import BadRow

ENOUGH = 8  # so many names of which none is there are no accident

_FILES, _SLICES, _ROWS = 8, 16, 8
_ABSOLUTE = re.compile(r"/|\\|[A-Za-z]:[\\/]|file:", re.IGNORECASE)


def named(source: Source, files: Sequence[tuple[Path, Sequence[Slice]]]) -> list[str]:
    """The names of images in some records, each once; none where the bytes stand in the records."""
    names: dict[str, None] = {}
    if not {"image", "images"} & source.column_map.keys():
        return []
    for path, parts in files[:: max(1, len(files) // _FILES)][:_FILES]:
        # only the beginning of what can't be read but from its beginning
        some = (
            parts[:1] if kind(path.name) == "parquet" or compressed(path) else parts[:: max(1, len(parts) // _SLICES)]
        )
        for part in some:
            names |= dict.fromkeys(_names(path, part, source))
    return list(names)


def _names(path: Path, part: Slice, source: Source) -> list[str]:
    found: list[str] = []
    try:
        for _, record in islice(read(path, part, wanted=partial(wanted, source=source)), _ROWS):
            try:
                refs = [] if isinstance(record, BadRow) else adapted(record, source).images
            except BadRow:
                continue
            found += [ref.path for ref in refs if ref.data is None and isinstance(ref.path, str)]
    except DataError:
        return found  # whoever reads the whole file says so
    return found


def problem(names: Sequence[str], where: Sequence[Place], files: Sequence[str]) -> str:
    """Why none of the images with these names can be found; "" where one is there, or an archive may have it.

    `files`: the names of all files of the source.
    """
    if not names:
        return ""
    first = repr(names[0][:80])
    if all(name.lower().startswith(("http://", "https://")) for name in names):
        return f"the records name addresses, e.g. {first}; write `urls: {{column: ...}}`"
    if all(map(_ABSOLUTE.match, names)):
        return (
            f"the records name absolute paths, e.g. {first}, which are never followed; make them relative to `images`"
        )
    if not where:
        hint = _hint(names, files)
        return f"the records name images, e.g. {first}, and the source has no `images`; say where they lie{hint}"
    folders = [place.folder for place in where]
    if None in folders or _there([folder for folder in folders if folder is not None], names, files):
        return ""
    return f"none of {len(names)} images that were looked for is there, e.g. {first}{_hint(names, files)}"


def _there(folders: Sequence[str], names: Sequence[str], files: Sequence[str]) -> bool:
    wanted_files = {file_names.listed(PurePosixPath(folder, name).as_posix()) for folder in folders for name in names}
    return any(file in wanted_files for file in files)


def _hint(names: Sequence[str], files: Sequence[str]) -> str:
    """Where a file with the last part of a name lies, and the `images` that leads there."""
    wanted_files = {PurePosixPath(name).name: name for name in reversed(names)}
    for file in files:
        name = wanted_files.get(PurePosixPath(file).name)
        if name is not None:
            fits = file == name or file.endswith(f"/{name}")
            folder = file[: -len(name)].rstrip("/") or "."
            return f"; write `images: {folder}`" if fits else f"; a file of that name is {file!r}"
    return ""
