"""`publish RECIPE --to FOLDER`: the kept samples of a finished recipe as a dataset folder that the Hub would accept.

All of it is written into a folder beside FOLDER that gets the name at the end, so FOLDER is whole or not there. One
that was killed goes on behind its last whole file. What is published is a function of the recipe, of what its steps are
made of, and of the size of files: the same is the same, byte by byte.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.commands.funnel import Funnel, funnel
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.publish import card, files, publication
from pipeline.publish.rows import Kept
from pipeline.publish.tally import Tally
from pipeline.storage.commit import TEMPORARY, clean, commit_text, lock
from schemas import yaml_file
from schemas.features import with_features
from schemas.identity import fingerprint
from schemas.manifest import FileEntry, Manifest, ManifestError, check_file, describe
from schemas.published import CARD, MANIFEST, RECIPE
from schemas.shown import shown
from schemas.strict import RecipeError

VERSION = 1
FILE_BYTES = 500_000_000


def publish(steps: Sequence[Step], context: Context, recipe: Path, to: Path, file_bytes: int = FILE_BYTES) -> Manifest:
    """Write it, unless it is there. Raises MissingInput while a step is missing, RecipeError for a FOLDER in use."""
    if file_bytes < 1:
        raise RecipeError(f"--file-bytes {file_bytes}: wanted at least 1")
    found = funnel(steps, context)  # refuses a recipe whose steps aren't finished
    target = Path(os.path.realpath(to.expanduser()))
    _refuse_data(target, context)
    text = _recipe(context)
    made = {"name": recipe.stem, "recipe": text, "shards": steps[-1].identity, "file_bytes": file_bytes}
    identity = fingerprint({"stage": publication.MAKER, "version": VERSION, **made})
    before = _before(target)
    if before is not None and before.identity == identity and _all_there(target, before):
        return before
    if before is not None and before.identity != identity:
        print(f"note: {shown(str(target))}: another publication is there, and is replaced", file=sys.stderr)
    temporary = target.with_name(f"{TEMPORARY}{publication.MAKER}-{target.name}")
    with lock(temporary):
        manifest = _written(temporary, steps, context, found, identity, made)
    _replace(temporary, target)
    return manifest


def _refuse_data(target: Path, context: Context) -> None:
    """Raise RecipeError for a folder among what the recipe reads: the next run would read what is published too."""
    for name, place in context.recipe.run.locations.items():
        if "://" not in place and target.is_relative_to(os.path.realpath(context.place(name))):
            raise RecipeError(f"--to {target}: lies in the folder of {name}, which the recipe reads; give another")


def _before(target: Path) -> Manifest | None:
    """The publication that is there, which may be replaced; None where there is nothing. Raises RecipeError."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        before = publication.opened(target)
        changed = [entry for entry in before.files if entry.rows is None]
        for entry in changed:
            check_file(target, entry)
    except ManifestError as error:
        raise RecipeError(f"--to {target}: is there, and nothing that may be replaced ({error})") from None
    if stray := next(publication.strays(target, before), None):
        raise RecipeError(f"--to {target}: holds {stray}, which is none of its publication's; move it away")
    return before


def _all_there(target: Path, before: Manifest) -> bool:
    paths = [(target / entry.name, entry.size) for entry in before.files]
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _recipe(context: Context) -> str:
    """The recipe's `data`, everything in it said; of `run` nothing, for that is about this machine."""
    data = {name: value for name, value in asdict(context.recipe.data).items() if value is not None}
    for section in ("sources", "benchmarks"):
        data[section] = {name: _said(source) for name, source in data[section].items()}
    declared = {**context.recipe.data.sources, **context.recipe.data.benchmarks}
    given = [*(name for name, source in declared.items() if source.hub is None), "tokenizer"]
    asked = "".join(f"#       --set run.locations.{name}=...\n" for name in given)
    how = f"# What was published is made by this recipe. Say where the data lie:\n#   python -m pipeline run {RECIPE}\n"
    return how + asked + yaml_file.dump({"data": json.loads(json.dumps(data))})


def _said(source: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in source.items() if value not in (None, (), {}, False)}


def _written(
    folder: Path, steps: Sequence[Step], context: Context, found: Funnel, identity: str, made: dict[str, Any]
) -> Manifest:
    """Everything but the folder's name. Raises ManifestError where rows are lost on the way."""
    last = steps[-1]
    kept = Kept.of(last, context)
    schema = with_features(kept.schema)
    written, tally = list[FileEntry](), Tally()
    (folder / MANIFEST).unlink(missing_ok=True)
    clean(folder)
    for one in files.write_all(folder, identity, schema, len(kept.parts), kept.pieces, made["file_bytes"]):
        written.append(one.entry)
        tally = tally + one.tally
        print(f"{publication.MAKER}: {tally.rows:,} of {found.all.kept:,} samples written", file=sys.stderr)
    _check(found, tally)
    entries = _named(folder, written)
    about = card.About(
        name=made["name"],
        schema=kept.schema,
        tally=tally,
        funnel=found.sources,
        meanings=found.meanings,
        steps=last.named(steps, context),
        model=json.loads(json.dumps({**asdict(last.params), "tokenizer": last.parameters["tokenizer"]})),
        recipe=made["recipe"],
        download_bytes=sum(entry.size for entry in entries),
        identity=identity,
    )
    commit_text(folder / CARD, card.card(about))
    commit_text(folder / RECIPE, made["recipe"])
    entries += [describe(folder, name) for name in (CARD, RECIPE)]
    manifest = Manifest(
        stage=publication.MAKER,
        version=VERSION,
        identity=identity,
        parameters={name: made[name] for name in ("name", "file_bytes")},
        inputs=last.named(steps, context),
        counts=found.all,
        by_source=found.sources,
        files=tuple(entries),
        facts={"totals": tally.totals, "images": tally.images, "num_bytes": tally.num_bytes},
    )
    commit_text(folder / MANIFEST, manifest.to_json())
    return manifest


def _check(found: Funnel, tally: Tally) -> None:
    """The ledger: what is in the files is what was kept, source by source, token by token."""
    kept = {name: counts.kept for name, counts in found.sources.items() if counts.kept}
    if tally.by_source() != kept:
        raise ManifestError(f"rows are lost: {tally.by_source()} were written, {kept} were kept; run the recipe again")
    if tally.totals != found.totals:
        raise ManifestError(f"tokens are lost: {tally.totals} in the files, {found.totals} in the shards")


def _named(folder: Path, written: Sequence[FileEntry]) -> list[FileEntry]:
    """The files under the names that say how many there are; what is no part of the publication goes."""
    entries = []
    for number, entry in enumerate(written):
        name = files.final_name(number, len(written))
        (folder / entry.name).replace(folder / name)
        entries.append(FileEntry(name, entry.size, entry.sha256, entry.rows))
    (folder / files.JOURNAL).unlink()
    return entries


def _replace(temporary: Path, target: Path) -> None:
    (temporary / ".lock").unlink()
    old = target.with_name(f"{TEMPORARY}old-{target.name}")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def said(manifest: Manifest, folder: Path) -> str:
    """One line about a publication."""
    data = [entry for entry in manifest.files if entry.rows is not None]
    size = sum(entry.size for entry in manifest.files)
    return f"{shown(str(folder))}: {manifest.counts.kept:,} samples in {len(data):,} files, {size:,} bytes"
