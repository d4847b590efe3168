"""The step `fetch_tokenizer`: the tokenizer's files of a model's repository on the Hub, at the recipe's commit.

Fetched like the files of a source, and proven by the hashes of the listing. What is made with the tokenizer is named by
the content of its files, as it is where they lie in a folder: the same files give the same shards, in the same folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.graph.context import Context
from pipeline.graph.proof import same_facts
from pipeline.graph.stage import Ending, Facts, Stage, Step, anything
from pipeline.graph.task import Job, Record
from pipeline.steps.download import fetching, much, phase
from pipeline.storage import layout
from pipeline.storage.part_writer import PartWriter
from schemas.identity import fingerprint
from schemas.manifest import FileEntry, Manifest
from stages import download, tokenizer_files


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    if context.fetched(layout.TOKENIZER):
        named = [list(found) for found in context.content.named(layout.TOKENIZER)]
        yield Step(
            stage, "", {"commit": context.content.commits[layout.TOKENIZER], "content": fingerprint(named)}, None
        )


def _split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    return fetching(layout.TOKENIZER, context)


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    files = [file for record in ending.records for file in record.files]
    return Facts({"content": _content(files)}, ending.context.content.remotes[layout.TOKENIZER].origin)


def _verify(folder: Path, manifest: Manifest) -> None:
    same_facts(folder, manifest, {"content": _content(manifest.files)})


def _content(files: Iterable[FileEntry]) -> str:
    return tokenizer_files.content({file.name.removeprefix(f"{layout.FETCHED}/"): file.sha256 for file in files})


FETCH_TOKENIZER = Stage(
    name="fetch_tokenizer",
    number=1,
    version=tokenizer_files.VERSION,
    makes="tokenizer",
    reasons=download.REASONS,
    steps=_steps,
    phases=(phase(_split),),
    absent="no tokenizer on the Hub, or a folder goes before it",
    named_by="content",
    finish=_finish,
    check=anything,
    verify=_verify,
    content=lambda manifest: str(manifest.facts["content"]),
    much=lambda step, context: much(layout.TOKENIZER, context),
)
