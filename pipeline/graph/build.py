"""Recipe + content -> steps, each with its identity and folder. Pure: touches nothing on disk.

Identity = fingerprint(stage, version, resolved parameters, identities of the inputs). The folder is
`<number>-<stage>[-<source>]-<first 8 digits>`, directly under `out`, so recipes that share their beginnings share the
work. Download and ingest are one step per source, so a new source costs only itself; everything after sees the parts of
all sources in the recipe's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from pipeline.recipe.types import Data
from schemas.identity import fingerprint
from stages.catalogue import FILTERS, STAGES
from stages.download import Found, role
from stages.sources.declaration import Source


@dataclass(frozen=True)
class Step:
    """One thing to do. `parameters` are what identity is made of; `params` is the same as the stage's own type."""

    stage: str
    label: str
    parameters: Mapping[str, Any]
    params: Any
    inputs: tuple[Step, ...] = ()
    benchmarks: tuple[Step, ...] = ()
    identity: str = field(default="", init=False)

    def __post_init__(self) -> None:
        entry = STAGES[self.stage]
        text = {
            "stage": self.stage,
            "version": entry.version,
            "parameters": self.parameters,
            "inputs": [step.identity for step in self.inputs],
            "benchmarks": [step.identity for step in self.benchmarks],
        }
        object.__setattr__(self, "identity", fingerprint(text))

    @property
    def prefix(self) -> str:
        """The folder's name without its identity."""
        label = f"-{self.label}" if self.label else ""
        return f"{STAGES[self.stage].number:02d}-{self.stage}{label}"

    @property
    def folder(self) -> str:
        return f"{self.prefix}-{self.identity[:8]}"

    @property
    def name(self) -> str:
        return f"{self.stage} {self.label}".strip()


class Content(Protocol):
    """What inventory.py finds out: files of every source, commits of those on the Hub, hashes of the assets."""

    sources: dict[str, list[Found]]
    benchmarks: dict[str, list[Found]]
    commits: dict[str, str]
    tokenizer: str
    language_model: str | None

    def collected(self, folder: str) -> str:
        """What a collect step has fetched so far, as a hash; "" before it ran."""
        ...


def build(data: Data, content: Content) -> list[Step]:
    """Every step of a recipe in running order."""
    ingests, steps = _raw(data, data.sources, content.sources, content)
    benchmarks, more = _raw(data, data.benchmarks, content.benchmarks, content)
    steps += more
    filters = [step for name in FILTERS if (step := _filter(name, data, content, ingests, benchmarks))]
    parameters = {**asdict(data.pretokenise), "tokenizer": content.tokenizer}
    last = Step("pretokenise", "", parameters, data.pretokenise, (*ingests, *filters))
    return [*sorted(steps, key=lambda step: STAGES[step.stage].number), *filters, last]


def _raw(
    data: Data, sources: Mapping[str, Source], files: Mapping[str, Sequence[Found]], content: Content
) -> tuple[tuple[Step, ...], list[Step]]:
    """The ingest steps of some sources, and all their steps."""
    ingests, steps = [], []
    for name, source in sources.items():
        named = [list(found) for found in sorted(files[name]) if role(found.file, source)]
        patterns = {"files": source.files, "images": source.images}
        # Not the dataset's name nor what was selected of it: the commit and the files say both
        commit = {"commit": content.commits[name]} if source.hub else {}
        download = Step("download", name, {**patterns, **commit, "content": fingerprint(named)}, source)
        inputs: tuple[Step, ...] = (download,)
        own = asdict(source)
        del own["hub"], own["urls"]
        if source.urls:
            inputs += (Step("collect", name, asdict(source.urls), source, (download,)),)
            own["collected"] = content.collected(inputs[1].folder)
        resolved = {"columns": source.column_map, "prompt": source.reading.prompt, "name": name}
        parameters = {**own, **resolved, **asdict(data.ingest)}
        ingests.append(Step("ingest", name, parameters, (source, data.ingest), inputs))
        steps += [*inputs, ingests[-1]]
    return tuple(ingests), steps


def _filter(
    name: str, data: Data, content: Content, ingests: tuple[Step, ...], benchmarks: tuple[Step, ...]
) -> Step | None:
    params = getattr(data, name)
    if params is None:
        return None
    assets = {asset: getattr(content, asset) for asset in FILTERS[name].assets}
    return Step(name, "", {**asdict(params), **assets}, params, ingests, benchmarks if name == "decontaminate" else ())
