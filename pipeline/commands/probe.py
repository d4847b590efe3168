"""`python -m pipeline probe PATH`: looks at unknown data and prints a recipe for it, or says what it cannot tell.

Some records are read from the beginning of some of the files; the shape that they share becomes the proposal, and the
same adapters that a run uses are tried on them, so that the first lines of the answer say how many would become
samples. Nothing is written and nothing is downloaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.graph.folder import listed
from pipeline.recipe.types import RESERVED
from schemas import published, strict, yaml_file
from schemas.shown import shown
from schemas.strict import RecipeError, brief
from stages.download import Found
from stages.images.rules import BadImage
from stages.ingest import IngestParams, ingest
from stages.sources import file_names, guess
from stages.sources.archives.image_files import ImageFiles, places
from stages.sources.archives.zip_and_tar import WHOLE
from stages.sources.declaration import Source, UrlColumn
from stages.sources.guess import Shape
from stages.sources.listing import Listed, Listing, path_of
from stages.sources.one_record import adapted, unread
from stages.sources.records.slices import SUFFIXES, TAR_SUFFIXES, head
from stages.sources.records.streams import DataError
from stages.sources.shapes import draft
from stages.sources.shapes.draft import BadRow
from stages.sources.shapes.webdataset import is_sample

_FILES, _RECORDS = 32, 64
_NOWHERE = Path("/dev/null")  # nothing is written, so nothing of it lies among the data


@dataclass(frozen=True)
class _Looked:
    """One file: its first records and their shape, or why there is none; `readable`: whether it has any."""

    file: str
    records: list[Any]
    shape: Shape | None
    problem: str = ""
    readable: bool = True


def probe(path: Path) -> str:
    """A recipe as YAML, with what was seen as comments. Raises RecipeError for data it can't tell."""
    if re.match(r"\w+:/", str(path)):
        raise RecipeError(f"{path}: probe looks at folders of this machine; fetch some of the files first")
    if not path.exists():
        raise RecipeError(f"{path}: no such file or folder")
    root = path if path.is_dir() else path.parent
    unsorted, links = listed(root, _NOWHERE, root.name)
    found = sorted(unsorted)
    files = [file.file for file in found if file.file != published.MANIFEST]
    asked = files if path.is_dir() else [file_names.listed(path.name)]
    looked = [_look(root, file) for file in _spread([f for f in asked if f.endswith((*SUFFIXES, *TAR_SUFFIXES))])]
    known = [one for one in looked if one.shape is not None]
    if not known:
        raise RecipeError(f"{path}: {_unknown(looked, asked)}")
    shape = Counter(str(one.shape) for one in known).most_common(1)[0][0]
    chosen = [one for one in known if str(one.shape) == shape]
    source, notes = _source(root, found, asked, looked, chosen)
    notes += links.notes()
    left = [one for one in looked if one not in chosen and one.file not in source.image_patterns]
    notes += [f"not named: {one.file} ({one.problem or 'another shape'})" for one in left][:10]
    return _written(root, source, [*_tried(root, found, source, chosen), *_unread(source, chosen), *notes])


def _spread(files: list[str]) -> list[str]:
    """Some of the files, from all over the folder."""
    return files[:: max(1, -(-len(files) // _FILES))]


def _look(root: Path, file: str) -> _Looked:
    try:
        records = head(path_of(root, file), _RECORDS)
    except (DataError, OSError) as error:
        return _Looked(file, [], None, " ".join(str(error).split()), readable=False)
    if file.endswith(TAR_SUFFIXES):
        found = Shape("webdataset") if any(map(is_sample, records)) else None
        return _Looked(file, records, found, "" if found else "no text in it: images, perhaps")
    found = guess.shape(records)
    return _Looked(file, records, found, "" if found else f"columns: {guess.described(records)}")


def _unknown(looked: Sequence[_Looked], files: Sequence[str]) -> str:
    if not looked:
        kinds = sorted({Path(file).suffix or "no suffix" for file in files})[:8]
        found = f"but {', '.join(kinds)}; convert tables to .parquet or .jsonl" if kinds else "and nothing else"
        return f"no .parquet, .json, .jsonl or .tar in it, {found}"
    readable = [one for one in looked if one.readable]
    if not readable:
        others = f"; and {len(looked) - 1:,} more of which none can be read" if len(looked) > 1 else ""
        return f"{looked[0].problem}{others}"
    seen = "; ".join(f"{one.file}: {one.problem}" for one in readable[:3])
    return f"can't tell which column is which; {seen}; write a recipe with `columns`"


def _source(
    root: Path, found: Sequence[Found], asked: Sequence[str], looked: Sequence[_Looked], chosen: Sequence[_Looked]
) -> tuple[Source, list[str]]:
    shape = chosen[0].shape
    assert shape is not None
    names = [one.file for one in chosen]
    records = [record for one in chosen for record in one.records]
    fields = {"format": shape.format, "files": _patterns(names, looked, asked), "columns": shape.columns}
    fields["scores"] = guess.scores(records, shape)
    if (root / published.MANIFEST).is_file():
        fields |= published.as_source({name for record in records for name in record})
    source = strict.build(Source, fields)
    if urls := guess.address_columns(records, shape):
        return replace(source, urls=strict.build(UrlColumn, urls)), ["images: fetched by address when the recipe runs"]
    wanted = guess.image_names(records, shape)
    if not wanted:
        return source, []
    images = _images(root, found, wanted, set(names))
    if images is None:
        return source, [f"images: {wanted[0]} is nowhere below the folder; say where they lie with `images`"]
    return replace(source, images=images), []


def _patterns(names: Sequence[str], looked: Sequence[_Looked], files: Sequence[str]) -> list[str]:
    """A pattern where every file of its kind that was looked at has the shape, or else the names."""
    suffixes = sorted({next(s for s in (*SUFFIXES, *TAR_SUFFIXES)[::-1] if name.endswith(s)) for name in names})
    patterns = [f"*{suffix}" for suffix in suffixes]
    same = all(one.file in names for one in looked if any(fnmatchcase(one.file, pattern) for pattern in patterns))
    return patterns if same and len(files) > 1 else list(names)


def _images(
    root: Path, found: Sequence[Found], wanted: Sequence[str], records: set[str]
) -> str | tuple[str, ...] | None:
    """The folder or the archives in which the names are found; None if nowhere."""
    some = list(dict.fromkeys(wanted))[:8]
    files = {file.file: file for file in found}
    if any(PurePosixPath(name).as_posix() in files for name in some):
        return "."
    folders = sorted({file[: -len(some[0]) - 1] for file in files if file.endswith(f"/{some[0]}")})
    if folders:
        return folders[0]
    archives = [file for file in files if file.endswith(WHOLE) and file not in records]
    having = tuple(archive for archive in archives if _has(root, files[archive], some))
    return (having[0] if len(having) == 1 else having) or None


def _has(root: Path, archive: Found, names: Iterable[str]) -> bool:
    try:
        files = ImageFiles(places(root, [archive.file], [archive]))
    except DataError:
        return False
    try:
        return any(_readable(files, name) for name in names)
    finally:
        files.close()


def _readable(files: ImageFiles, name: str) -> bool:
    try:
        return bool(files.read(name))
    except BadImage:
        return False


def _tried(root: Path, found: Sequence[Found], source: Source, chosen: Sequence[_Looked]) -> list[str]:
    """What becomes of the records that were read. Images by address are not asked for: the records alone are tried."""
    if source.urls is not None:
        read = [record for one in chosen for record in one.records[:16]]
        sound = sum(_sound(record, source) for record in read)
        return [f"{sound} of {len(read)} records that were read are sound; their images were not looked at"]
    listing = Listing.of(Listed(*file) for file in found)
    opened = ImageFiles(places(root, source.image_patterns, found), listing=listing)
    tried = [ingest(enumerate(one.records[:16]), "probe", one.file, source, opened, IngestParams()) for one in chosen]
    counts = [piece.counts for pieces in tried for piece in pieces]
    opened.close()
    rows, kept = sum(c.rows_in for c in counts), sum(c.kept for c in counts)
    rejected: Counter[str] = Counter()
    for count in counts:
        rejected.update(count.rejected)
    why = ", ".join(f"{reason} {number}" for reason, number in sorted(rejected.items()))
    return [f"{kept} of {rows} records that were read become samples" + (f"; rejected: {why}" if why else "")]


def _unread(source: Source, chosen: Sequence[_Looked]) -> list[str]:
    """What the proposal leaves out of the records that were read."""
    names: set[str] = set()
    for record in (record for one in chosen for record in one.records):
        with suppress(BadRow):
            names |= unread(record, source) if isinstance(record, Mapping) else set()
    left = sorted(names - set(source.ignore))
    return [f"nobody reads: {', '.join(brief(name) for name in left[:20])}"] if left else []


def _sound(record: Any, source: Source) -> bool:
    try:
        draft.check(adapted(record, source))
    except BadRow:
        return False
    return True


def _written(root: Path, source: Source, notes: Sequence[str]) -> str:
    """The recipe as YAML."""
    name = re.sub(r"[^a-z0-9]+", "_", root.resolve().name.lower()).strip("_") or "data"
    name = f"{name}_data" if name in RESERVED else name
    fields: dict[str, Any] = {"format": source.format, "files": list(source.files)}
    if source.images:
        fields["images"] = source.images if isinstance(source.images, str) else list(source.images)
    if source.columns:
        fields["columns"] = source.columns
    if source.scores:
        fields["scores"] = list(source.scores)
    if source.ignore:
        fields["ignore"] = list(source.ignore)
    if source.urls:
        fields["urls"] = {k: v for k, v in asdict(source.urls).items() if k in ("column", "sha256") and v}
    recipe = {
        "data": {"sources": {name: {**fields, "licence": "unknown"}}, "dedupe": {}, "quality": {}, "pretokenise": {}},
        "run": {"out": f"out/{name}", "locations": {name: str(root), "tokenizer": "path/to/tokenizer"}},
    }
    comments = "".join(f"# {shown(note)}\n" for note in notes)
    return comments + yaml_file.dump(recipe)
