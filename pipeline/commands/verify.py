"""Is a folder what its manifest says? Every file's size and sha256; whether the manifest follows from the folder; then
what the row of its stage proves beyond.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.graph.proof import prove
from pipeline.graph.stage import Stage
from pipeline.steps.table import STAGES
from schemas.manifest import MANIFEST, Manifest, ManifestError, unedited, verify
from schemas.strict import RecipeError, unknown


def folders(path: Path) -> list[Path]:
    """The folder itself, or the finished steps in an output folder."""
    return [path] if (path / MANIFEST).is_file() else sorted(p.parent for p in path.glob(f"*/{MANIFEST}")) or [path]


def check(folder: Path, table: Mapping[str, Stage] = STAGES) -> Manifest:
    """The manifest of a sound folder of one of these stages. Raises ManifestError naming the first fault."""
    manifest = verify(folder)
    if manifest.stage not in table:
        raise ManifestError(f"{folder / MANIFEST}: {unknown('stage', manifest.stage, table)}")
    prove(folder, manifest, table[manifest.stage])
    table[manifest.stage].verify(folder, manifest)
    unedited(folder, manifest)
    return manifest


def sources(checked: Mapping[Path, Manifest], table: Mapping[str, Stage] = STAGES) -> Iterator[str]:
    """Read again what sound folders were made of, where it lies elsewhere; what was found, in words.

    Of folders of one stage and source the newest counts: others speak of what the source was. Raises ManifestError,
    when all were read, naming each source that is not what it was.
    """
    newest: dict[str, Path] = {}
    for folder in sorted(checked, key=lambda folder: (folder / MANIFEST).stat().st_mtime):
        if table[checked[folder].stage].sources is not None:
            newest[f"{folder.parent}/{folder.name[: -len('-12345678')]}"] = folder
    if not newest:
        raise RecipeError("--sources: none of these folders is of a step that hashes a source; give 01-hash-...")
    faults = []
    for folder in newest.values():
        again = table[checked[folder].stage].sources
        assert again is not None
        try:
            yield again(folder, checked[folder])
        except ManifestError as error:
            faults.append(str(error))
    if faults:
        raise ManifestError("; ".join(faults))


def unfinished(path: Path) -> list[Path]:
    """The steps in an output folder that have begun and have no manifest."""
    begun = [folder for folder in sorted(path.glob("[0-9][0-9]-*-" + "[0-9a-f]" * 8)) if folder.is_dir()]
    return [folder for folder in begun if not (folder / MANIFEST).is_file()]
