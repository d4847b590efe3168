"""A recipe: the YAML file that says everything about a run, as two types.

`data` is identity: what the result is made of. Change a key and the steps it reaches get another identity and folder.
`run` is execution: where things lie, how many workers. Nothing of it changes a byte of the result.
Both are strict: an unknown key is an error that suggests the near one. Paths are relative to the current folder.

A source may begin from a file: `extends: configs/sources/finevision.yaml`. The file holds the keys of one source; keys
given beside `extends` replace the file's, each as a whole. A file extends no other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.net.fetch_many import Crowd
from pipeline.net.http_client import Patience
from schemas import strict
from schemas.strict import RecipeError
from stages.catalogue import STAGES
from stages.filters.decontaminate import DecontaminateParams
from stages.filters.dedupe import DedupeParams
from stages.filters.language import LanguageParams
from stages.filters.quality import QualityParams
from stages.ingest import IngestParams
from stages.pretokenise import PretokeniseParams
from stages.sources.declaration import Source

_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9a-fA-F:]+")
RESERVED = ("tokenizer", "language_model")


@dataclass(frozen=True)
class Data:
    """What the result is made of. A filter without a section does not run; `{}` runs it with its defaults."""

    sources: dict[str, Source]
    pretokenise: PretokeniseParams
    benchmarks: dict[str, Source] = field(default_factory=dict)
    ingest: IngestParams = field(default_factory=IngestParams)
    dedupe: DedupeParams | None = None
    decontaminate: DecontaminateParams | None = None
    language: LanguageParams | None = None
    quality: QualityParams | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources is empty; name at least one")
        for name in (*self.sources, *self.benchmarks):
            if not _NAME.fullmatch(name) or name in RESERVED:
                raise ValueError(f"{name!r} can't name a source; use a-z, 0-9, _ and none of {', '.join(RESERVED)}")
        both = set(self.sources) & set(self.benchmarks)
        if both:
            raise ValueError(f"{', '.join(sorted(both))}: a source and a benchmark of one name; rename one")
        if bool(self.benchmarks) != (self.decontaminate is not None):
            missing = "decontaminate" if self.benchmarks else "benchmarks"
            raise ValueError(f"{missing}: missing; decontaminate needs benchmarks and benchmarks serve nothing else")


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
        known = [f"{stage}.{reason}" for stage, entry in STAGES.items() for reason in entry.reasons]
        for reason, share in self.stop_if.items():
            if reason not in known:
                raise ValueError(strict.unknown("stop_if", reason, known))
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
        fetched = {n for n, s in {**self.data.sources, **self.data.benchmarks}.items() if s.hub is not None}
        for name in (*self.data.sources, *self.data.benchmarks, "tokenizer"):
            if name in fetched and name in self.run.locations:
                raise ValueError(
                    f"run.locations.{name}: its files come from the Hub; delete this line, or give the source hub: null"
                )
            if name not in fetched and name not in self.run.locations:
                raise ValueError(f"run.locations.{name}: missing; say where it lies")

    @property
    def out(self) -> Path:
        return Path(self.run.out)


def load(path: Path | str, out: str | None = None, address: str | None = None, sets: Sequence[str] = ()) -> Recipe:
    """Read a recipe; `out`, `address` and `sets` ("run.workers=4") override its `run`. Raises RecipeError."""
    mapping = read_yaml(path)
    if not isinstance(mapping, dict):
        raise RecipeError(f"{path}: got {type(mapping).__name__}, wanted a mapping with the keys data and run")
    if "model" in mapping or "optimiser" in mapping:
        raise RecipeError(f"{path}: is a training config; give it to `python -m train fit`")
    run = mapping.setdefault("run", {})
    if run is None or isinstance(run, dict):
        run = mapping["run"] = {**(run or {})}
        for text in sets:
            _assign(run, text)
        run |= {key: value for key, value in {"out": out, "address": address}.items() if value is not None}
    _refuse_empty(mapping.get("data"))
    if isinstance(mapping.get("data"), dict):
        mapping["data"] = {**mapping["data"], **_extended(mapping["data"])}
    recipe = strict.build(Recipe, mapping)
    # A job's working folder is a temporary copy that Ray deletes with the job.
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") and not recipe.out.is_absolute():
        raise RecipeError(
            f"run.out: {recipe.run.out!r} is relative, and a Ray job's folder is deleted after it; give a full path"
        )
    return recipe


def read_yaml(path: Path | str) -> Any:
    """Safe YAML with duplicate keys refused. Raises RecipeError in one line."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: can't be read ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise RecipeError(f"{path}{place}: not YAML: {getattr(error, 'problem', None) or error}") from None


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, which YAML would resolve silently to the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _extended(data: dict[str, Any]) -> dict[str, Any]:
    """The sections of sources, with what their `extends` names put in."""
    found: dict[str, Any] = {}
    for section in ("sources", "benchmarks"):
        if isinstance(data.get(section), dict):
            found[section] = {
                name: _extend(source, f"data.{section}.{name}") if isinstance(source, dict) else source
                for name, source in data[section].items()
            }
    return found


def _extend(source: dict[str, Any], where: str) -> dict[str, Any]:
    if "extends" not in source:
        return source
    path = source["extends"]
    if not isinstance(path, str):
        raise RecipeError(f"{where}.extends: got {path!r}, wanted the path of a file, e.g. configs/sources/aya.yaml")
    if not Path(path).is_file():
        raise RecipeError(f"{where}.extends: {path}: no such file; paths are relative to the current folder")
    base = read_yaml(path)
    if not isinstance(base, dict):
        raise RecipeError(f"{path}: got {type(base).__name__}, wanted a mapping with the keys of a source")
    if "extends" in base:
        raise RecipeError(f"{path}: extends another file; one level is all there is, name that file in the recipe")
    return {**base, **{key: value for key, value in source.items() if key != "extends"}}


def _assign(run: dict[str, Any], text: str) -> None:
    key, sign, value = text.partition("=")
    names = key.split(".", 2) if key.startswith("run.stop_if.") else key.split(".")  # reasons have a dot of their own
    if not sign or names[0] != "run" or len(names) < 2:
        raise RecipeError(f"--set {text}: wanted run.KEY=VALUE; `data` is identity, change it in the recipe")
    target = run
    for name in names[1:-1]:
        inner = target.get(name) or {}
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {text}: {name} is not a mapping")
        target[name] = dict(inner)
        target = target[name]
    try:
        target[names[-1]] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {text}: {value!r} is not YAML; put text with special characters in quotes") from None


def _refuse_empty(data: Any) -> None:
    """`dedupe:` with nothing after it reads as null; whether that means "defaults" or "off" nobody can tell."""
    for name, section in (data or {}).items() if isinstance(data, dict) else ():
        if section is None:
            raise RecipeError(f"data.{name}: empty; write {name}: {{}} for the defaults, or delete the line")
