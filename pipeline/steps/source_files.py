"""The files of a source, as its step listed them: where they lie, what they were, and which of them hold records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage import layout
from pipeline.storage.at_once import at_once
from pipeline.storage.part_reader import read
from stages.download import FILES
from stages.sources.listing import Changed, Listed, check, path_of, times
from stages.sources.records.streams import DataError


@dataclass(frozen=True)
class SourceFiles:
    """Every file that the declaration names, below `root` and sorted by name, and those that hold records."""

    root: Path
    files: list[Listed]
    records: list[Listed]


def source_files(step: Step, context: Context) -> SourceFiles:
    """What a finished step that makes files lists. Raises Changed for a fetched file that is not there any more."""
    folder = context.out / step.folder
    fetched = context.fetched(step.label)
    root = folder / layout.FETCHED if fetched else context.place(step.label)
    listing = read(folder / layout.FILES, schema=FILES).to_pydict()
    seen = _now(root, listing["file"]) if fetched else _listed(step, context, listing["file"])
    files = list(map(Listed, listing["file"], listing["size"], seen, listing["sha256"]))
    records = [file for file, role in zip(files, listing["role"], strict=True) if role == "records"]
    if fetched:
        check(root, files)
    return SourceFiles(root, files, records)


def _listed(step: Step, context: Context, names: list[str]) -> list[str]:
    """The times of files in a folder, as they were listed; the step was named by them."""
    found = context.content.named(step.label)
    if [file.file for file in found] != names:
        raise DataError(
            f"{context.out / step.folder / layout.FILES}: not the listed files; delete the folder and rerun"
        )
    return [file.digest for file in found]


def _now(root: Path, names: list[str]) -> list[str]:
    """The times of files that were fetched: what was listed of them elsewhere is another one's."""
    try:
        return at_once(lambda name: times(path_of(root, name).stat()), names)
    except OSError as error:
        raise Changed(f"{error.filename}: can't be read any more ({error.strerror}); run again to fetch it") from None
