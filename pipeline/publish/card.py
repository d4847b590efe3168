"""README.md of a published folder: front matter that the Hub and `datasets` read, and a page for a person.

What comes from data (licences, names of files in reasons' details) is hostile: in the front matter stand only words of
closed lists, and numbers; on the page such a text stands as code, in a fence that it can't end, on one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.publish import licences
from pipeline.publish.tally import Tally
from schemas import yaml_file
from schemas.features import yaml_features
from schemas.manifest import Counts
from schemas.published import DATA, LANGUAGE, RECIPE, TOLD, as_source
from schemas.shown import shown

_RARE = 0.01  # of the samples: a language of fewer is most likely a wrong guess
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_NO_LANGUAGE = ("und", "zxx", "mul")
_LICENCES = 20  # of one source, by name


@dataclass(frozen=True)
class About:
    """What a card tells beyond the manifest. `meanings`: what each reason says; `steps`: folder -> identity."""

    name: str
    schema: pa.Schema
    tally: Tally
    funnel: Mapping[str, Counts]
    meanings: Mapping[str, str]
    steps: Mapping[str, str]
    model: Mapping[str, Any]
    recipe: str
    download_bytes: int
    identity: str

    @property
    def all(self) -> Counts:
        return sum(self.funnel.values(), Counts())


def card(about: About) -> str:
    """The whole file."""
    body = [_opening(about), _licences(about), _funnel(about), _columns(about), _tokens(about), _again(about)]
    return f"---\n{yaml_file.dump(front_matter(about))}---\n\n" + "\n\n".join(body) + "\n"


def front_matter(about: About) -> dict[str, Any]:
    rows = about.tally.rows
    used = [name for found in about.tally.licences.values() for name in found]
    split = {"name": "train", "num_bytes": about.tally.num_bytes, "num_examples": rows}
    return {
        "pretty_name": shown(about.name),
        "license": licences.of_hub(used),
        LANGUAGE: _languages(about.tally),
        "task_categories": ["image-text-to-text" if about.tally.images else "text-generation"],
        "size_categories": [_size(rows)],
        "dataset_info": {
            "features": yaml_features(about.schema),
            "splits": [split],
            "download_size": about.download_bytes,
            "dataset_size": about.tally.num_bytes,
        },
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": f"{DATA}/train-*"}]}],
    }


def _languages(tally: Tally) -> list[str]:
    named = {code: n for code, n in tally.languages.items() if _LANGUAGE.fullmatch(code) and code not in _NO_LANGUAGE}
    often = [code for code, n in named.items() if n >= _RARE * tally.rows]
    return sorted(often, key=lambda code: (-named[code], code))


def _size(rows: int) -> str:
    """The Hub's word for so many rows."""
    steps = [(10**power, f"{10 ** (power % 3)}{'KMBT'[power // 3 - 1]}") for power in range(3, 13)]
    below = ""
    for limit, word in steps:
        if rows < limit:
            return f"{below}<n<{word}" if below else f"n<{word}"
        below = word
    return f"n>{below}"


def code(text: str) -> str:
    """A text that is not ours on one line of Markdown, as code; in a table too."""
    line = shown(" ".join(text.split()))[:200].replace("|", "\\|")
    if not line:
        return "–"
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = [":--"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def _opening(about: About) -> str:
    tally = about.tally
    return (
        f"# {code(about.name)}\n\n{tally.rows:,} conversations with {tally.images:,} images, kept of "
        f"{about.all.rows_in:,} rows by a recipe ([{RECIPE}]({RECIPE})). A row is a whole "
        "conversation: `messages` with its `images` in order."
    )


def _licences(about: About) -> str:
    lines = []
    for source, found in about.tally.licences.items():
        often = sorted(found, key=lambda name: (-found[name], name))
        lines += [(code(source), code(name), f"{found[name]:,}") for name in often[:_LICENCES]]
        if left := often[_LICENCES:]:
            lines.append((code(source), f"{len(left):,} others", f"{sum(found[name] for name in left):,}"))
    told = "As the sources say it, row by row in the column `licence`; nothing here grants more than they do."
    return f"## Licences\n\n{told}\n\n" + _table(["source", "licence", "samples"], lines)


def _funnel(about: About) -> str:
    ledgers = {**{code(name): counts for name, counts in about.funnel.items()}, "**all**": about.all}
    lines = [
        (name, *(f"{n:,}" for n in (c.rows_in, sum(c.rejected.values()), sum(c.dropped.values()), c.kept)))
        for name, c in ledgers.items()
    ]
    table = _table(["source", "rows in", "rejected", "dropped", "kept"], lines)
    return f"## What was kept\n\nRows in = rejected + dropped + kept.\n\n{table}\n\n{_reasons(about)}"


def _reasons(about: About) -> str:
    """Every reason of every source: why a row is not here."""
    lines = [
        (f"`{reason}`", text, code(source), f"{lost[reason]:,}")
        for reason, text in about.meanings.items()
        for source, counts in about.funnel.items()
        if reason in (lost := {**counts.rejected, **counts.dropped})
    ]
    return _table(["reason", "what it says", "source", "rows"], lines) if lines else "No row was left out."


def _columns(about: About) -> str:
    return "## Columns\n\n" + "\n".join(f"- `{name}`: {TOLD[name]}" for name in about.schema.names)


def _tokens(about: About) -> str:
    t = about.tally.totals
    told = (
        f"{t['num_text_tokens']:,} text + {t['num_image_tokens']:,} image = {t['num_tokens']:,} tokens, "
        f"{t['num_target_tokens']:,} of them targets; {t['num_tiles']:,} tiles. They are counted for this model recipe:"
    )
    return f"## Tokens\n\n{told}\n\n{_fenced(yaml_file.dump(dict(about.model)), 'yaml')}"


def _fenced(text: str, kind: str) -> str:
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{ticks}{kind}\n{text.rstrip()}\n{ticks}"


def _again(about: About) -> str:
    source = {"format": "messages", "files": [f"{DATA}/*.parquet"], **as_source(about.schema.names)}
    steps = [(code(folder), f"`{identity}`") for folder, identity in about.steps.items()]
    return (
        '## Read it again\n\nWith `datasets`: `load_dataset("owner/name")`. As a source of a recipe:\n\n'
        f"{_fenced(yaml_file.dump(source), 'yaml')}\n\n## What it is made of\n\n"
        f"This publication is `{about.identity}`; `tessera.json` has the sha256 of every file.\n\n"
        + _table(["step", "identity"], steps)
    )
