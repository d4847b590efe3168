"""What a mixture asks for: the section `data.mixture` of a recipe. It only leaves out; weights and repeats belong to
training.

by       what all numbers count: samples, or tokens (text and image, as pretokenise would count them)
seed     another one draws other samples
caps     at most so many of each group: `{subset: 50000}`; of the subsets of one source: `{subset: {finevision: 50000}}`
limits   at most so many of a named group: `{language: {ja: 300000}, subset: {finevision/chartqa: 1000}}`
shares   percent of all that stays: `{language: {en: 74, ja: 16}}`; what is not named shares the rest, and nothing else
         stays where they add up to 100. Of several keys, all hold at once
at_most  of all together

A group is named by a key: `source`; `subset`, as source/subset; `language`, which the filter of that name found, else
what the source declares (`und` where neither does); `kind`, which is `image` or `text`, the latter without any image.
The rules hold in that order, each over what the one before left. A higher number only adds samples, as long as no later
rule gives the place of one to another; a higher `at_most` always does. Samples that pretokenise will drop are counted
by samples, and not by tokens. Shares are met within 0.1 %, or as near as whole samples allow.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

By = Literal["samples", "tokens"]
Key = Literal["source", "subset", "language", "kind"]
KEYS: tuple[Key, ...] = get_args(Key)
KINDS = ("image", "text")
FULL = 100.0  # percent
_NEAR = 1e-9


@dataclass(frozen=True)
class Caps:
    """At most so many of each; null: as many as there are."""

    source: int | None = None
    subset: int | dict[str, int] | None = None
    language: int | None = None
    kind: int | None = None

    def __post_init__(self) -> None:
        for key in KEYS:
            given = getattr(self, key)
            for name, most in given.items() if isinstance(given, dict) else [("", given)]:
                _check_most(f"{key}.{name}" if name else key, most)

    def of(self, key: Key, source: str) -> int | None:
        """The cap of a group of a source."""
        given = getattr(self, key)
        found: int | None = given.get(source) if isinstance(given, dict) else given
        return found


@dataclass(frozen=True)
class Limits:
    """At most so many of a group, by its name."""

    source: dict[str, int] = field(default_factory=dict)
    subset: dict[str, int] = field(default_factory=dict)
    language: dict[str, int] = field(default_factory=dict)
    kind: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, name, most in named(self):
            _check_most(f"{key}.{name}", most)


@dataclass(frozen=True)
class Shares:
    """Percent of all that stays, by a group's name."""

    source: dict[str, float] = field(default_factory=dict)
    subset: dict[str, float] = field(default_factory=dict)
    language: dict[str, float] = field(default_factory=dict)
    kind: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, name, percent in named(self):
            if not 0 <= percent <= FULL:
                raise ValueError(f"{key}.{name}: got {percent:g}, wanted percent, from 0 to 100")
        for key in KEYS:
            if (total := sum(getattr(self, key).values())) > FULL + _NEAR:
                raise ValueError(f"{key}: adds up to {total:g} %, wanted 100 % at the most")

    @property
    def keys(self) -> tuple[Key, ...]:
        """By which shares are asked for."""
        return tuple(key for key in KEYS if getattr(self, key))

    def rest(self, key: Key) -> float:
        """The percent of all groups that are not named, together."""
        left = FULL - sum(getattr(self, key).values())
        return left if left > FULL * _NEAR else 0.0


@dataclass(frozen=True)
class MixtureParams:
    """See above."""

    by: By = "samples"
    seed: int = 0
    caps: Caps = field(default_factory=Caps)
    limits: Limits = field(default_factory=Limits)
    shares: Shares = field(default_factory=Shares)
    at_most: int | None = None

    def __post_init__(self) -> None:
        _check_most("at_most", self.at_most)
        for of_kinds in (self.limits.kind, self.shares.kind):
            for name in of_kinds:
                if name not in KINDS:
                    raise ValueError(f"kind: got {name}, wanted {' or '.join(KINDS)}")
        if self.at_most is None and not any(self.asks(key) for key in KEYS):
            raise ValueError("asks for nothing; give caps, limits, shares or at_most, or delete the section")

    def asks(self, key: Key) -> bool:
        """Whether a rule is about groups of this key."""
        return bool(getattr(self.limits, key) or getattr(self.shares, key) or getattr(self.caps, key))

    def check_sources(self, sources: Iterable[str]) -> None:
        """Raise ValueError for a source that the recipe doesn't have."""
        of_subsets = self.caps.subset if isinstance(self.caps.subset, dict) else {}
        asked = [(f"caps.subset.{name}", name) for name in of_subsets]
        for word, rules in (("limits", self.limits), ("shares", self.shares)):
            asked += [(f"{word}.source.{name}", name) for name in rules.source]
            asked += [(f"{word}.subset.{name}", name.split("/")[0]) for name in rules.subset]
        known = sorted(sources)
        for where, name in asked:
            if name not in known:
                raise ValueError(f"{where}: no source is called {name!r}{near(name, known)}")


def named(rules: Limits | Shares) -> Iterator[tuple[Key, str, float]]:
    """(key, group, number) of every group that has one."""
    for one in fields(rules):
        numbers: Mapping[str, float] = getattr(rules, one.name)
        for name, number in numbers.items():
            yield one.name, name, number  # type: ignore[misc]


def near(name: str, known: Iterable[str]) -> str:
    """What may have been meant, as the end of a message."""
    names = sorted(known)
    if found := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        return f"; did you mean {found[0]!r}?"
    return f"; there are {', '.join(names[:10])}{', ...' if names[10:] else ''}"


def _check_most(where: str, most: float | None) -> None:
    if most is not None and most < 1:
        raise ValueError(f"{where}: got {most}, wanted at least 1")
