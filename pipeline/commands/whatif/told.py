"""What `whatif` found, as a table by source with a line for each filter, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.commands.terminal import plain
from pipeline.commands.whatif.judges import Judges
from pipeline.commands.whatif.moves import Moves

_TOKENS = ("text", "image", "target")


def show(judges: Judges, found: Moves, console: Console | None = None) -> None:
    """Print it."""
    console = console or plain(wide=True)
    rows = ["before", "gained", "lost", "after"]
    _table(console, "Rows", rows, rows, found)
    keys = [f"num_{kind}_tokens_{way}" for way in ("gained", "lost") for kind in _TOKENS]
    _table(console, "Tokens", [f"{kind} {way}" for way in ("gained", "lost") for kind in _TOKENS], keys, found)
    for name in judges.changed:
        console.print(_changed(name, found.filters.get(name, Counter())), soft_wrap=True)
    for name in judges.following:
        console.print(_following(name, found.filters.get(name, Counter())), soft_wrap=True)
    if recut := found.all["recut"]:
        console.print(f"{recut:,} stay with other turns; the tokens say what that comes to", soft_wrap=True)


def to_json(settings: Sequence[str], judges: Judges, found: Moves) -> dict[str, Any]:
    """The same for a program."""
    return {
        "settings": list(settings),
        "changed": judges.changed,
        "following": judges.following,
        "sources": {name: dict(amounts) for name, amounts in found.sources.items()},
        "all": dict(found.all),
        "filters": {name: dict(amounts) for name, amounts in found.filters.items()},
    }


def _changed(name: str, of: Counter[str]) -> str:
    """`of`: see Moves. What it alone decides, no other filter has a say in."""
    dropped = f"{of['drops']:,} more dropped, {of['lost']:,} of them by it alone"
    return (
        f"{name}: {dropped}; {of['keeps']:,} more pass, {of['gained']:,} of them stay, and no other filter dropped them"
    )


def _following(name: str, of: Counter[str]) -> str:
    """A filter that chooses among those that the others keep."""
    if not any(of[key] for key in ("lost", "gained", "of_gained")):
        return f"{name} follows: it would choose as before"
    stay = f"{of['gained']:,} stay in place of others that are lost"
    return f"{name} follows: {stay}; of those gained it drops {of['of_gained']:,}; {of['lost']:,} give way to them"


def _table(console: Console, title: str, names: Sequence[str], keys: Sequence[str], found: Moves) -> None:
    table = Table(title=Text(title), title_justify="left")
    table.add_column("", overflow="fold")
    for name in names:
        table.add_column(Text(name), justify="right")
    for source, amounts in found.sources.items():
        table.add_row(Text(source), *(f"{amounts[key]:,}" if amounts[key] else "-" for key in keys))
    table.add_row("all", *(f"{found.all[key]:,}" if found.all[key] else "-" for key in keys), style="bold")
    console.print(table)
