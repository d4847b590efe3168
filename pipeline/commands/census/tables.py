"""A census on the terminal: recipes side by side, then each one's sources and languages; within 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.commands.census.budget import Budget, Plan, budget
from pipeline.commands.census.found import Found
from pipeline.commands.census.lengths import quantiles
from pipeline.commands.census.told import reason
from pipeline.commands.terminal import plain
from schemas.shown import shown
from stages.census import Amount, Place

_BESIDE = 3  # so many recipes stand side by side
_MOST = 24  # lines of a table of sources and languages
_LINES = (
    ("rows of shards", "rows"),
    ("text tokens", "num_text_tokens"),
    ("image tokens", "num_image_tokens"),
    ("tokens", "num_tokens"),
    ("targets", "num_target_tokens"),
    ("tiles", "num_tiles"),
)


def show(found: Sequence[Found], plan: Plan, console: Console | None = None) -> None:
    """Print everything."""
    console = console or plain()
    for first in range(0, len(found), _BESIDE):
        _print(console, "Census", [], _side_by_side(found[first : first + _BESIDE]))
    for one in found:
        _show_places(one, console)
        _show_costs(one, console)
    for one in found:
        console.print(f"{shown(one.name)}: {shown(one.basis)}", soft_wrap=True)
        if plan.asked:
            console.print(f"{shown(one.name)}: {told(plan, one)}", soft_wrap=True)


def told(plan: Plan, found: Found) -> str:
    """A recipe's budget as a sentence."""
    kept = found.tally.kept
    spent = budget(plan, kept["rows"], kept["num_tokens"])
    return "no budget, for there is nothing to train on" if spent is None else _sentence(plan, spent)


def _sentence(plan: Plan, spent: Budget) -> str:
    of_step = f"{short(plan.batch_tokens)} tokens" if plan.batch_tokens else f"{short(plan.batch_samples or 0)} rows"
    steps = "" if spent.steps is None else f"{spent.steps:,} steps of {of_step} are "
    hours = (
        "" if spent.hours is None else f"; {_duration(spent.hours)} at {short(plan.tokens_per_second or 0)} tokens/s"
    )
    epochs = f"{spent.epochs:,.3g}" if spent.epochs < 1 else f"{spent.epochs:,.2f}"
    many = "epoch" if spent.epochs == 1 else "epochs"
    what = f"{short(spent.rows)} rows, {short(spent.tokens)} tokens"
    return f"{steps}{epochs} {many} of {what}: {short(spent.tokens_seen)} tokens in all{hours}"


def _duration(hours: float) -> str:
    return f"{hours * 60:.1f} minutes" if hours < 1 else f"{hours:,.1f} hours"


def short(number: float) -> str:
    """In full below a million, else in four digits."""
    for size, letter, least in ((1e12, "T", 0.99995e12), (1e9, "B", 0.99995e9), (1e6, "M", 1e6)):
        if number >= least:
            return f"{number / size:.4g} {letter}"
    return f"{number:,.0f}"


def _side_by_side(found: Sequence[Found]) -> list[list[str]]:
    """The first line is that of the names."""
    tallies = [one.tally for one in found]
    kept = [tally.kept for tally in tallies]
    lines = [["", *(shown(one.name) for one in found)]]
    lines.append(["rejected rows", *(_full(sum(sum(r.values()) for r in one.rejected.values())) for one in found)])
    lines.append(["samples", *(_full(tally.samples) for tally in tallies)])
    dropped = [tally.dropped for tally in tallies]
    for why in sorted({why for one in dropped for why in one}):
        lines.append([f"dropped {reason(why)}", *(_full(one[why]["samples"] if why in one else 0) for one in dropped)])
    lines.append(["kept samples", *(_full(amount["samples"]) for amount in kept)])
    lines += [[what, *(_full(amount[name]) for amount in kept)] for what, name in _LINES]
    each = [quantiles(tally.lengths) for tally in tallies]
    if any(each):
        lines += [
            [f"tokens a row: {name}", *(_full(one.get(name, 0)) for one in each)] for name in ("median", "p99", "max")
        ]
    lines.append(["scheme", *(shown(str(one.model["tiles"]["scheme"])) for one in found)])
    lines.append(["max_tokens", *(_full(one.max_tokens) for one in found)])
    return lines


def _full(number: int) -> str:
    return f"{number:,}" if number else "-"


def _print(console: Console, title: str, names: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A table; without `names` the first line has them."""
    head, *rest = [list(names), *lines] if names else lines
    table = Table(title=Text(title), title_justify="left")
    for number, name in enumerate(head):
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for line in rest:
        table.add_row(*map(Text, line), style="bold" if line[0] == "tokens" else None)
    console.print(table)


def _show_places(found: Found, console: Console) -> None:
    """Sources and languages by their tokens, the largest first; what doesn't fit is one line."""
    groups = sorted(found.tally.groups.items(), key=lambda item: (-item[1].kept["num_tokens"], str(item[0])))
    lines = [[_place(place), *_numbers(group.kept)] for place, group in groups[:_MOST]]
    if left := groups[_MOST:]:
        rest = sum((group.kept for _, group in left), Amount())
        lines.append([f"{len(left)} more", *_numbers(rest)])
    _print(console, shown(found.name), ["source, language", "kept", "text", "image", "targets", "tiles"], lines)


def _place(place: Place) -> str:
    return shown(f"{place.source}, {place.language}" if place.language else place.source)


def _numbers(amount: Amount) -> list[str]:
    names = ("samples", "num_text_tokens", "num_image_tokens", "num_target_tokens", "num_tiles")
    return [short(amount[name]) if amount[name] else "-" for name in names]


def _show_costs(found: Found, console: Console) -> None:
    """What each filter's reasons cost, in tokens that would have been kept."""
    costs = [(why, amount) for why, amount in found.tally.dropped.items() if why[0]]
    if costs:
        lines = [[reason(why), *_numbers(amount)] for why, amount in costs]
        title = f"{shown(found.name)}: what filters take"
        _print(console, title, ["filter, reason", "samples", "text", "image", "targets", "tiles"], lines)
