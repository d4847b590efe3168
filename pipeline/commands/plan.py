"""What a run would do: each step with its folder, whether it is done, and if not, what changed since it last was.

The reason is found by comparing the step's parameters and inputs with other finished folders of the same stage and
source, of which the newest few are looked at: the keys that moved are named, of the folder that is nearest.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.commands.terminal import plain
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.storage import layout
from schemas.manifest import MANIFEST, Manifest, ManifestError, read
from schemas.shown import shown

_COMPARED = 8  # folders of a stage and source, for the reason why one is to do


def state(step: Step, context: Context) -> tuple[str, str]:
    """("done" or "to do", why)."""
    if not step.identity:
        waits = [needed.name for needed in step.needs if needed.identity and needed.names(context) is None]
        return "to do", f"named by what {', '.join(waits)} brings" if waits else "named when its inputs are"
    manifest = context.manifest(step)
    if manifest is not None:
        why = step.stage.again(step, manifest, context, False)
        return ("to do", why) if why else ("done", "")
    if lost := context.lost(step):
        more = f" and {len(lost) - 1:,} more files" if len(lost) > 1 else ""
        return (
            "to do",
            f"damaged: it was finished, but {lost[0]}{more} is gone or cut; it is made again",
        )
    folder = context.out / step.folder
    places = [folder, *(folder / phase.name for phase in step.stage.phases[:-1])]
    begun = sum(len(layout.records(place)) for place in places)
    if begun:
        return "to do", f"interrupted: {begun:,} parts are done and stay"
    moved = min((_moved(step, older, context) for older in _older(step, context.out)), key=len, default=None)
    return "to do", f"changed: {', '.join(moved)}" if moved else "never run"


def show(steps: Sequence[Step], context: Context, console: Console | None = None) -> None:
    """Print the plan as a table."""
    table = Table(title=Text(f"Steps in {shown(str(context.out))}"), title_justify="left")
    for name in ("step", "folder, ending in the identity", "state", "why"):
        table.add_column(name, overflow="fold", no_wrap=name.startswith("folder"))
    for step in steps:
        what, why = state(step, context)
        if what == "to do" and (much := step.stage.much(step, context)):
            why += f"; {much}"
        table.add_row(
            *(Text(shown(cell)) for cell in (step.name, step.folder, what, why)),
            style=None if what == "done" else "bold",
        )
    console = console or plain(wide=True)
    console.print(table)
    for step in steps:
        if note := step.stage.notice(step, context):
            console.print(Text(shown(f"note: {step.name}: {note}")), soft_wrap=True)


def _older(step: Step, out: Path) -> Iterator[Manifest]:
    """Finished folders of the same stage and source with another identity, the newest ones first."""
    found = [p for p in out.glob(f"{step.prefix}-*/{MANIFEST}") if p.parent.name[: -len("-12345678")] == step.prefix]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[:_COMPARED]:
        with contextlib.suppress(ManifestError):  # not comparable; `verify` is what reports a broken manifest
            yield read(path.parent)


def _moved(step: Step, older: Manifest, context: Context) -> list[str]:
    now, then = dict(_flat(json.loads(json.dumps(step.parameters)))), dict(_flat(older.parameters))
    keys = [key for key in sorted({*now, *then}) if now.get(key) != then.get(key)]
    if older.version != step.stage.version:
        keys.append(f"version of the stage ({older.version} -> {step.stage.version})")
    read = (*step.inputs, *step.benchmarks)
    now_read, then_read = step.named(read, context).items(), {**older.inputs, **older.benchmarks}.items()
    inputs = {re.sub("-[0-9a-f]{8}$", "", folder) for folder, _ in now_read ^ then_read}
    return keys + [f"input {name}" for name in sorted(inputs)] or ["order of the inputs"]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
