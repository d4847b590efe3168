"""Is a folder what its manifest says? Every file's size and sha256, then what the row of its stage proves beyond."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.graph.stage import Stage
from pipeline.steps.table import STAGES
from schemas.manifest import MANIFEST, Manifest, ManifestError, verify
from schemas.strict import unknown


def folders(path: Path) -> list[Path]:
    """The folder itself, or the finished steps in an output folder."""
    return [path] if (path / MANIFEST).is_file() else sorted(p.parent for p in path.glob(f"*/{MANIFEST}")) or [path]


def check(folder: Path, table: Mapping[str, Stage] = STAGES) -> Manifest:
    """The manifest of a sound folder of one of these stages. Raises ManifestError naming the first fault."""
    manifest = verify(folder)
    if manifest.stage not in table:
        raise ManifestError(f"{folder / MANIFEST}: {unknown('stage', manifest.stage, table)}")
    table[manifest.stage].verify(folder, manifest)
    return manifest


def unfinished(path: Path) -> list[Path]:
    """The steps in an output folder that have begun and have no manifest."""
    begun = [folder for folder in sorted(path.glob("[0-9][0-9]-*-" + "[0-9a-f]" * 8)) if folder.is_dir()]
    return [folder for folder in begun if not (folder / MANIFEST).is_file()]
