"""A recipe as types: what a run is to make, and how.

`data` is identity: what the result is made of. Change a key and the steps it reaches get another identity and folder.
`run` is execution: where things lie, how many workers. Nothing of it changes a byte of the result.
Both are strict: an unknown key is an error that suggests the near one. The paths of `run` are relative to the current
folder.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Literal

from pipeline.net.fetch_many import Crowd
from pipeline.net.http_client import Patience
from schemas import strict
from stages.duplicates.params import DedupeParams
from stages.filters.decontaminate import DecontaminateParams
from stages.filters.language import LanguageParams
from stages.filters.quality import QualityParams
from stages.ingest import IngestParams
from stages.mixture.params import MixtureParams
from stages.shard_rows import PretokeniseParams
from stages.sources.declaration import Source
from stages.tokenizer_files import HubTokenizer

_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-fA-F:]+")
TOKENIZER = "tokenizer"
RESERVED = (TOKENIZER, "language_model")


@dataclass(frozen=True)
class Data:
    """What the result is made of. A filter without a section does not run; `{}` runs it with its defaults.

    Only `quality` runs with its defaults where nothing is said of it, for these hit broken rows alone; it may be `off`.
    `tokenizer` names one on the Hub; a folder in `run.locations.tokenizer` goes before it.

    `benchmarks` are what samples are compared with (`decontaminate`), and what models are evaluated on. A recipe that
    has nothing else fetches and ingests them; they are the same folders as under a recipe with sources.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    pretokenise: PretokeniseParams | None = None
    tokenizer: HubTokenizer | None = None
    benchmarks: dict[str, Source] = field(default_factory=dict)
    ingest: IngestParams = field(default_factory=IngestParams)
    dedupe: DedupeParams | None = None
    decontaminate: DecontaminateParams | None = None
    language: LanguageParams | None = None
    quality: QualityParams | Literal["off"] = field(default_factory=QualityParams)
    mixture: MixtureParams | None = None

    def __post_init__(self) -> None:
        if not self.sources and not self.benchmarks:
            raise ValueError("sources is empty; name at least one, or benchmarks alone")
        for name in (*self.sources, *self.benchmarks):
            if not _NAME.fullmatch(name) or name in RESERVED:
                raise ValueError(f"{name!r} can't name a source; use a-z, 0-9, _ and none of {', '.join(RESERVED)}")
        for name in self.language.sources if self.language else ():
            if name not in self.sources:
                raise ValueError(strict.unknown("language.sources", name, self.sources))
        self._check_mixture()
        both = set(self.sources) & set(self.benchmarks)
        if both:
            raise ValueError(f"{', '.join(sorted(both))}: a source and a benchmark of one name; rename one")
        for name, source in self.sources.items():
            if source.scoring is not None:
                raise ValueError(f"sources.{name}.scoring: only benchmarks are scored; move it there, or delete this")
        if not self.sources:
            self._check_alone()
        elif self.pretokenise is None:
            raise ValueError("pretokenise: missing; it says what the shards are to be")
        elif self.benchmarks and self.decontaminate is None:
            raise ValueError(
                "decontaminate: missing; sources are compared with benchmarks beside them; write decontaminate: {}, or "
                "put benchmarks that are evaluated on alone in a recipe of their own"
            )
        if self.decontaminate is not None and not self.benchmarks and not self.decontaminate.sketches:
            raise ValueError("benchmarks: missing; decontaminate needs benchmarks, or files of decontaminate.sketches")

    def _check_alone(self) -> None:
        """A recipe of benchmarks says nothing of samples that it doesn't have."""
        unsaid = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(Data)}
        for name in unsaid.keys() - {"benchmarks", "ingest"}:
            if getattr(self, name) != unsaid[name]:
                raise ValueError(f"{name}: of no use to a recipe of benchmarks alone; delete it, or name sources")

    @property
    def shards(self) -> PretokeniseParams:
        """What a recipe with sources makes."""
        assert self.pretokenise is not None
        return self.pretokenise

    def _check_mixture(self) -> None:
        if self.mixture is None:
            return
        try:
            self.mixture.check_sources(self.sources)
        except ValueError as error:
            raise ValueError(f"mixture.{error}") from None


@dataclass(frozen=True)
class Run:
    """Where and how.

    locations  source or benchmark -> folder, or s3://bucket/prefix; `tokenizer` -> folder; `language_model` -> file

    workers   parts worked on at a time; none: as many as the cluster has CPUs
    address   a Ray cluster's address; none: Ray starts on this machine
    stop_if   `stage.reason` -> share of a step's rows; above it the run stops there (a wrong folder of images shows as
              image_missing, and should not cost a night)
    allow_hosts  hosts that may be asked although their address is not a public one (a mirror in the house)
    patience  how long to wait for a server, and how often to ask again
    crowd     how many images to fetch at a time by address (data.sources.*.urls), in each part that is worked on
    """

    out: str = "out"
    locations: dict[str, str] = field(default_factory=dict)
    workers: int | None = None
    address: str | None = None
    stop_if: dict[str, float] = field(default_factory=dict)
    allow_hosts: tuple[str, ...] = ()
    patience: Patience = field(default_factory=Patience)
    crowd: Crowd = field(default_factory=Crowd)

    def __post_init__(self) -> None:
        if "://" in self.out:
            raise ValueError(f"out: got {self.out!r}, wanted a folder; only sources' locations may be s3://")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers: got {self.workers}, wanted at least 1")
        for reason, share in self.stop_if.items():  # whether there is such a reason, the table of stages knows
            if not 0 <= share <= 1:
                raise ValueError(f"stop_if.{reason}: got {share}, wanted a share from 0 to 1")
        for host in self.allow_hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"allow_hosts: got {host!r}, wanted a host's name or address alone")


@dataclass(frozen=True)
class Recipe:
    """A whole recipe."""

    data: Data
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        known = {*self.data.sources, *self.data.benchmarks, *RESERVED}
        for name, place in self.run.locations.items():
            if name not in known:
                raise ValueError(strict.unknown("run.locations", name, known))
            if re.match(r"\w+:/", place) and (name in RESERVED or not place.startswith("s3://")):
                wanted = "a folder of this machine" if name in RESERVED else "a folder or s3://bucket/prefix"
                raise ValueError(f"run.locations.{name}: got {place!r}, wanted {wanted}")
        self._check_sources()
        self._check_tokenizer()

    def _check_sources(self) -> None:
        """Each has a place of its own, or is on the Hub."""
        sources, given = {**self.data.sources, **self.data.benchmarks}, self.run.locations
        if twice := [name for name, source in sources.items() if source.hub is not None and name in given]:
            raise ValueError(
                f"run.locations.{twice[0]}: its files come from the Hub; delete this line, or give the source hub: null"
            )
        if absent := [name for name, source in sources.items() if source.hub is None and name not in given]:
            also = f"; missing too: {', '.join(absent[1:])}" if absent[1:] else ""
            say = f"say where it lies, --set run.locations.{absent[0]}=FOLDER"
            raise ValueError(f"run.locations.{absent[0]}: missing; {say}{also}")

    def _check_tokenizer(self) -> None:
        """It is in a folder, or on the Hub at a commit."""
        if TOKENIZER in self.run.locations or not self.data.sources:
            return
        hub = self.data.tokenizer
        if hub is None:
            raise ValueError(f"run.locations.{TOKENIZER}: missing; say where it lies, or name one in data.{TOKENIZER}")
        if hub.revision is None:
            local = f"or run.locations.{TOKENIZER}, a folder that holds its files"
            raise ValueError(f"data.{TOKENIZER}.revision: missing; give a commit of {hub.model}, {hub.advice}, {local}")

    @property
    def tokenizer_hub(self) -> HubTokenizer | None:
        """Where the tokenizer is fetched from; None: it lies in a folder."""
        return None if TOKENIZER in self.run.locations else self.data.tokenizer

    def need_sources(self, command: str) -> None:
        """Raise RecipeError where there is nothing that shards could be made of."""
        if not self.data.sources:
            raise strict.RecipeError(
                f"{command}: the recipe has benchmarks alone, and this is about sources and shards"
            )

    @property
    def out(self) -> Path:
        return Path(self.run.out)
