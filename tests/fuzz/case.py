"""One seed: a corpus, the commands a person would run on it, and what must be true of what they leave.

The ledger adds up to the records that were written; no traceback, no crash, no hang, one line for an error; what is
kept is, byte for byte, what was put in; a killed run ends like one that was not; a changed byte is found.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import yaml

from stages.sources.shapes.caption import PROMPT
from tests.fuzz.command import Failed, Outcome, command
from tests.fuzz.corpus import Made, make
from tests.fuzz.hostile import damaged

# Circumstances, and what a finished step's tasks did: no manifest speaks of them
_UNPROVEN = re.compile(r"run\.json|part-\d+\.json")


def run(seed: int | str, folder: Path) -> str:
    """Everything that is done for one seed; how far it came. Raises Failed."""
    draw = Random(f"fuzz {seed}")
    made = make(folder, draw)
    recipe, out = folder / "recipe.yaml", folder / "out"
    recipe.write_text(yaml.safe_dump(made.recipe, sort_keys=False), encoding="utf-8")
    for source in sorted(folder.glob("s[0-9]")):
        command("probe", str(source)).check()
    command("plan", str(recipe)).check()
    if draw.random() < 0.5:
        command("run", str(recipe), survives=draw.randrange(8)).check()
        command("plan", str(recipe)).check()
    done = command("run", str(recipe)).check()
    if not out.is_dir():
        return f"refused: {done.err.strip()[:150]}"
    _same_as_fresh(done, recipe, folder)
    command("rejects", str(recipe)).check()
    command("plan", str(recipe)).check()
    if done.code:
        return f"ended: {done.err.strip()[:150]}"
    _sound(made, out)
    if "nothing to do" not in (again := command("run", str(recipe)).check()).out:
        raise Failed(f"a finished run has something to do: {again}")
    _shown(recipe, out, draw)
    _damage_is_found(recipe, out, draw)
    return "done"


def _same_as_fresh(done: Outcome, recipe: Path, folder: Path) -> None:
    fresh = command("run", str(recipe), "--out", str(folder / "fresh")).check()
    if fresh.code != done.code:
        raise Failed(f"a run ends with {done.code}, and one in a fresh folder with {fresh.code}: {done} {fresh}")
    one, two = (_results(place) for place in (folder / "out", folder / "fresh"))
    if done.code == 0 and one != two:
        names = sorted({*one.items()} ^ {*two.items()})
        raise Failed(f"not the bytes of a fresh run: {[name for name, _ in names]}")


def _results(out: Path) -> dict[str, str]:
    files = [path for path in out.glob("*/*") if path.is_file() and path.name != "run.json"]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _sound(made: Made, out: Path) -> None:
    """What is kept was put in, and every record is accounted for."""
    texts = "\n".join([*made.texts, PROMPT])
    pictures = {hashlib.sha256(data).hexdigest() for data in made.pictures}
    for folder in sorted(out.glob("??-ingest-*")):
        manifest = json.loads((folder / "manifest.json").read_text())
        ((name, counts),) = manifest["by_source"].items() or [("", manifest["counts"])]
        if name not in made.rows:
            continue  # its file was damaged: it may hold anything by now
        if counts["rows_in"] != made.rows[name]:
            raise Failed(f"{name}: {made.rows[name]} records written, {counts} in the ledger")
        for path in sorted(folder.glob("part-*.parquet")):
            for row in pq.read_table(path).to_pylist():
                _traced(row, texts, pictures, path)
    _same_pictures(out)


def _traced(row: dict[str, Any], texts: str, pictures: set[str], path: Path) -> None:
    for message in row["messages"]:
        for block in message["content"]:
            if any(line not in texts for line in (block["text"] or "").split("\n")):
                raise Failed(f"{path} {row['sample_id']}: nobody wrote {block['text']!r}")
    for image, info in zip(row["images"], row["image_info"], strict=True):
        digest = hashlib.sha256(image["bytes"]).hexdigest()
        if digest not in pictures or digest != info["sha256"]:
            raise Failed(f"{path} {row['sample_id']}: nobody made this picture ({digest})")


def _same_pictures(out: Path) -> None:
    """What a shard holds of a sample is what ingest made of it."""
    parts = out.glob("??-ingest-*/part-*.parquet")
    known = {
        r["sample_id"]: r["images"]
        for p in parts
        for r in pq.read_table(p, columns=["sample_id", "images"]).to_pylist()
    }
    for path in out.glob("??-pretokenise-*/shard-*.arrow"):
        for row in ipc.open_file(path).read_all().to_pylist():
            if row["images"] != known[row["sample_id"]]:
                raise Failed(f"{path} {row['sample_id']}: other pictures than in ingest")
            if row["num_tokens"] != len(row["input_ids"]):
                raise Failed(f"{path} {row['sample_id']}: {row['num_tokens']} tokens counted")


def _shown(recipe: Path, out: Path, draw: Random) -> None:
    _succeeds("report", str(recipe))
    _succeeds("verify", str(out))
    parts = sorted(out.glob("??-ingest-*/part-*.parquet"))
    ids = [value for path in parts for value in pq.read_table(path, columns=["sample_id"])["sample_id"].to_pylist()]
    if ids:
        _succeeds("show", str(recipe), draw.choice(ids))


def _succeeds(*arguments: str) -> None:
    outcome = command(*arguments).check()
    if outcome.code:
        raise Failed(f"a sound run, and {outcome}")


def _damage_is_found(recipe: Path, out: Path, draw: Random) -> None:
    """One file of a finished run is damaged: `verify` finds it, and nothing that is done next falls over it."""
    victim = draw.choice(sorted(p for p in out.glob("??-*/*") if p.is_file() and not _UNPROVEN.fullmatch(p.name)))
    before = victim.read_bytes()
    after = damaged(before, draw)
    if after == before:
        return
    victim.write_bytes(after)
    if command("verify", str(out)).check().code == 0:
        raise Failed(f"{victim} is damaged, and verify says sound")
    for name in ("plan", "rejects", "report", "run"):
        command(name, str(recipe)).check()
