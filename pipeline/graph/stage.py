"""What a stage is to the pipeline: one row of the stage table says all that a run, and every command, asks of it.

  Stage   a row: what it makes, how a recipe asks for it, its phases, when it is due again, what is checked of it
  Phase   one way its step is cut into tasks: `split` lists them, `do` does one in a worker
  Step    a stage at work on one recipe: its parameters and inputs, which make its identity and its folder

Outside a stage's own file nobody compares its name; whoever must know something asks the row. A step with several
phases does them one after the other, and each is cut by the records of the one before (parts -> keyed buckets ->
verdicts, say). All but the last write into a folder of their own below the step's, which is removed after the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from pipeline.graph.context import Context
from pipeline.graph.task import Done, Job, Record
from pipeline.storage.part_writer import PartWriter
from schemas.identity import fingerprint
from schemas.manifest import Counts, Manifest, ManifestError

Makes = Literal["tokenizer", "files", "images", "samples", "pairs", "verdicts", "shards"]
TURNS = "turns"  # the fact of a filter that may remove turns: the ledger of those that it saw, by source


@dataclass(eq=False)
class Step:
    """One thing to do. `parameters` are what identity is made of; `params` is the same as the stage's own type.

    inputs      steps that it reads; benchmarks: those of the benchmarks
    brought     parameter -> the step that brings it: its value is what that step names by
    identity    "" while it is not known: an input that names by content must have run first (see `resolve`)
    """

    stage: Stage
    label: str
    parameters: Mapping[str, Any]
    params: Any
    inputs: tuple[Step, ...] = ()
    benchmarks: tuple[Step, ...] = ()
    brought: Mapping[str, Step] = field(default_factory=dict)
    identity: str = field(default="", init=False)

    @property
    def needs(self) -> tuple[Step, ...]:
        """Every step that must be finished first."""
        return (*self.inputs, *self.benchmarks, *self.brought.values())

    @property
    def prefix(self) -> str:
        """The folder's name without its identity."""
        label = f"-{self.label}" if self.label else ""
        return f"{self.stage.number:02d}-{self.stage.name}{label}"

    @property
    def folder(self) -> str:
        return f"{self.prefix}-{self.identity[:8] or '????????'}"

    @property
    def name(self) -> str:
        return f"{self.stage.name} {self.label}".strip()

    def making(self, kind: Makes) -> list[Step]:
        """Its inputs that make samples, verdicts ..., in their order."""
        return [step for step in self.inputs if step.stage.makes == kind]

    def named(self, steps: Sequence[Step], context: Context) -> dict[str, str]:
        """Folder and identity of what it reads; what names by content stands there without the folder's own name."""
        keys = {step: step.folder if step.stage.named_by == "identity" else step.prefix for step in steps}
        return {key: str(step.names(context)) for step, key in keys.items()}

    def reads(self, other: Step) -> bool:
        """Whether it reads what `other` makes, or what is made from that."""
        return any(needed is other or needed.reads(other) for needed in self.needs)

    def resolve(self, context: Context) -> bool:
        """Find the identity, if all that names the step is known; whether it is."""
        if self.identity:
            return True
        if not all(step.resolve(context) for step in self.needs):
            return False
        inputs, benchmarks = ([step.names(context) for step in steps] for steps in (self.inputs, self.benchmarks))
        brought = {name: step.names(context) for name, step in self.brought.items()}
        if None in (*inputs, *benchmarks, *brought.values()):
            return False
        self.parameters = {**self.parameters, **brought}
        self.identity = identity_of(self.stage.name, self.stage.version, self.parameters, inputs, benchmarks)
        return True

    def names(self, context: Context) -> str | None:
        """What a step that reads this one is named by: its identity, or what it brought, once it has run."""
        if self.stage.named_by == "identity":
            return self.identity
        manifest = context.manifest(self)
        return None if manifest is None else self.stage.content(manifest)


Earlier = Callable[[int], Mapping[str, pa.Table]]
"""The number of a part -> of every filter before, by its name, the verdicts: VERDICT, kept_turns, language."""
Replay = Callable[[int], pa.Table]
"""The number of a part -> the verdicts on it, in the same columns."""


@dataclass(frozen=True)
class Phase:
    """One way a step is cut into tasks.

    split   (step, context, records of the phase before) -> its jobs, in the order of their numbers
    do      (job, writer) -> what was done; in a worker, so a function of a module, that needs nothing but the job
    name    of the folder for its files, unless it is the last
    word    what its tasks are made of, or make
    failed  what is said of files, or parts, that have a problem
    keep    whether the record that an earlier run left of a job may stand
    before  (folder, jobs to do) -> why it is no use to begin; "" if it is
    live    (folder, jobs to do) -> how much of them is there already, in `unit`
    stops   reason -> what it says: after STREAK files in a row that failed for one, the rest is not begun in this run
    """

    split: Callable[[Step, Context, Sequence[Record]], Sequence[Job]]
    do: Callable[[Any, PartWriter], Done]
    name: str = "parts"
    word: Literal["parts", "files", "buckets", "shards"] = "parts"
    unit: Literal["samples", "bytes"] = "samples"
    failed: str = "could not be read"
    keep: Callable[[Any, Record], bool] = lambda job, record: True
    before: Callable[[Path, Sequence[Any]], str] = lambda folder, jobs: ""
    live: Callable[[Path, Sequence[Any]], int] = lambda folder, jobs: 0
    stops: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """A step all of whose tasks are done. `before`: its manifest, if it was finished before and was due again."""

    step: Step
    context: Context
    records: Sequence[Record]
    before: Manifest | None

    @property
    def folder(self) -> Path:
        return self.context.out / self.step.folder


@dataclass(frozen=True)
class Facts:
    """What a step has beyond its tasks: for its manifest, for run.json, and a note for the person."""

    facts: dict[str, Any] = field(default_factory=dict)
    circumstances: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def rows_of_samples(step: Step, manifest: Manifest, context: Context) -> None:
    """Rows in must be what the inputs kept: the ledger across steps, not only within one. Raises ManifestError."""
    kept = sum(context.finished(needed).counts.kept for needed in step.making("samples"))
    if manifest.counts.rows_in != kept:
        raise ManifestError(f"{step.name}: {manifest.counts.rows_in:,} rows in, but its inputs kept {kept:,}")


def anything(step: Step, manifest: Manifest, context: Context) -> None:
    """No check: the step begins a ledger."""


@dataclass(frozen=True)
class Stage:
    """A row of the stage table.

    steps     (the row, recipe and content, steps so far) -> its steps; none where the recipe doesn't ask for it
    absent    what a recipe lacks that has no such step
    foresee   before any step of a run: raises RecipeError for what would make this one useless, where it shows by now
    require   before the first task: the same, with the inputs there
    named_by  whether steps that read it are named by its identity, or by what it brought: its `content`
    finish    when all tasks are done: writes the files of the whole step
    check     what must hold between its ledger and those of its inputs; raises ManifestError or StepError
    again     (step, manifest, context, asked for it alone) -> why a finished step is due again; "" if it is not
    remark    what a person should know of a finished step that is not due
    notice    what a person should know of a step before and after it is done, for `plan`, the run and the report
    much      how much there is to do before it begins, where that is worth saying
    content   what a finished step brought, as one hash
    replay    (step as it ran, as it would be, context, verdicts of the filters before it, as they would be) -> its
              verdicts, as they would be, from what lies in finished folders alone, and nothing is written; raises
              RecipeError for what that can't say; None: only a run can
    verify    proves a finished folder beyond its files' hashes; raises ManifestError
    sources   reads again what the step read of a source that lies elsewhere: how much was as it was, in words; raises
              ManifestError; None for steps that read no such thing
    """

    name: str
    number: int
    version: int
    makes: Makes
    reasons: Mapping[str, str]
    steps: Callable[[Stage, Context, Sequence[Step]], Iterable[Step]]
    phases: tuple[Phase, ...]
    absent: str = ""
    named_by: Literal["identity", "content"] = "identity"
    foresee: Callable[[Step, Context], None] = lambda step, context: None
    require: Callable[[Step, Context], None] = lambda step, context: None
    finish: Callable[[Ending, PartWriter], Facts] = lambda ending, writer: Facts()
    check: Callable[[Step, Manifest, Context], None] = rows_of_samples
    again: Callable[[Step, Manifest, Context, bool], str] = lambda step, manifest, context, asked: ""
    remark: Callable[[Step, Manifest], str] = lambda step, manifest: ""
    notice: Callable[[Step, Context], str] = lambda step, context: ""
    much: Callable[[Step, Context], str] = lambda step, context: ""
    content: Callable[[Manifest], str] = lambda manifest: manifest.identity
    replay: Callable[[Step, Step, Context, Earlier], Replay] | None = None
    verify: Callable[[Path, Manifest], None] = lambda folder, manifest: None
    sources: Callable[[Path, Manifest], str] | None = None


def identity_of(
    stage: str,
    version: int,
    parameters: Mapping[str, Any],
    inputs: Sequence[str | None],
    benchmarks: Sequence[str | None],
) -> str:
    """What a step is: all that it is made of, as one hash."""
    named = {"inputs": inputs, "benchmarks": benchmarks}
    return fingerprint({"stage": stage, "version": version, "parameters": parameters, **named})


def all_of(steps: Iterable[Step], makes: Makes, labels: Iterable[str]) -> tuple[Step, ...]:
    """The steps that make something, of some sources, in the order of the sources."""
    found = {step.label: step for step in steps if step.stage.makes == makes}
    return tuple(found[label] for label in labels)


def ledger(records: Iterable[Record]) -> dict[str, Counts]:
    """The counts of records by source."""
    by_source: dict[str, Counts] = {}
    for record in records:
        for source, counts in record.by_source.items():
            by_source[source] = by_source.get(source, Counts()) + counts
    return by_source
