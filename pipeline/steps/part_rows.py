"""Phase `rows` of pretokenise: the text of a part becomes rows without images, and a verdict for each sample.

Reads the narrow columns of a part and its verdicts; writes `rows-NNNNN.arrow`, a batch of which becomes a batch of a
shard, and `verdict-NNNNN.parquet`. The record tells the rows and bytes of each batch: where the shards are cut is
arithmetic on that (shard_files.py).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.graph.task import Done, Job, Record
from pipeline.steps.samples import Part, parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import read, row_groups
from pipeline.storage.part_writer import PartWriter
from schemas import strict
from schemas.manifest import Counts
from schemas.shard import ROWS
from schemas.strict import RecipeError
from stages import pretokenise
from stages.chat import ChatFormat, ImageTokens
from stages.chat_rules import ChatRules
from stages.pretokenise import VERDICT
from stages.shard_rows import PretokeniseParams
from stages.tokenizer_check import refusal


@dataclass(frozen=True, kw_only=True)
class RowsJob(Job):
    """A part, its verdict file of every filter, and the folder of the tokenizer."""

    part: Part
    verdicts: tuple[tuple[str, str], ...]
    tokenizer: str
    params: PretokeniseParams


def split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    """A job for each part of samples."""
    folders = {judge.stage.name: context.out / judge.folder for judge in step.making("verdicts")}
    return [
        RowsJob(
            amount=part.rows,
            part=part,
            verdicts=tuple((name, str(folder / layout.verdict(number))) for name, folder in folders.items()),
            tokenizer=tokenizer(step, context),
            params=step.params,
        )
        for number, part in enumerate(parts_of(step.making("samples"), context))
    ]


def tokenizer(step: Step, context: Context) -> str:
    """Where the tokenizer lies."""
    fetched = [str(context.out / fetch.folder / layout.FETCHED) for fetch in step.brought.values()]
    return fetched[0] if fetched else str(context.place(layout.TOKENIZER))


def do(job: RowsJob, writer: PartWriter) -> Done:
    """Encode a part. The first task writes the tokenizer as it is used, too."""
    chat = chat_format(job.tokenizer, told(job.params))
    verdicts = {name: read(path) for name, path in job.verdicts}
    batches, judged, counts = [], [], Counts()

    def rows() -> Iterator[pa.Table]:
        nonlocal counts
        groups = row_groups(job.part.path, list(pretokenise.COLUMNS))
        for piece in pretokenise.pretokenise(groups, verdicts, chat, job.params):
            judged.append(piece.verdict)
            counts += piece.counts
            batches.append((piece.rows.num_rows, piece.size))
            yield piece.rows

    writer.write(layout.rows(writer.number), ROWS, rows())
    writer.write(layout.verdict(writer.number), VERDICT, [pa.concat_tables(judged).combine_chunks()])
    if not writer.number:
        _save_tokenizer(chat, writer)
    return Done({job.part.source: counts}, {"batches": [batch for batch in batches if batch[0]], **of_tokenizer(chat)})


@functools.lru_cache(maxsize=2)
def chat_format(folder: str, given: str) -> ChatFormat:
    tokens, rules = (json.loads(given)[name] for name in ("tokens", "chat"))
    return ChatFormat.load(folder, ImageTokens(**tokens), strict.build(ChatRules, rules))


def told(params: PretokeniseParams) -> str:
    """What of a recipe a ChatFormat is made by, as JSON: a text is the same wherever it is."""
    return json.dumps({"tokens": asdict(params.tokens), "chat": asdict(params.chat)})


def refuse(step: Step, context: Context, params: PretokeniseParams) -> None:
    """The tokenizer and its template are tried now: all else is done before the first task that needs them."""
    content = context.content.tokenizer
    for fetch in step.brought.values():
        content = fetch.names(context)
    if content is None:
        return  # not fetched yet: as soon as it is, this is asked again
    if why := refusal(tokenizer(step, context), content, told(params)):
        own = "; for a change of its files copy them, and give the copy as run.locations.tokenizer"
        raise RecipeError(f"data.tokenizer: {why}{own}" if step.brought else f"run.locations.tokenizer: {why}")


def brought(before: Sequence[Step]) -> dict[str, Step]:
    """The step that fetches the tokenizer, where there is one."""
    fetching = [step for step in before if step.stage.makes == "tokenizer"]
    return {layout.TOKENIZER: fetching[0]} if fetching else {}


def of_tokenizer(chat: ChatFormat) -> dict[str, Any]:
    """The facts that the tokenizer decides: the tokens with the ids that they have in it."""
    return {
        "tokens": asdict(chat.image_tokens),
        "image_token_id": chat.image_token_id,
        "vocab_size": chat.vocab_size,
    }


def _save_tokenizer(chat: ChatFormat, writer: PartWriter) -> None:
    folder = writer.folder / layout.TOKENIZER
    chat.save(folder)
    for path in sorted(folder.iterdir()):
        writer.add(f"{layout.TOKENIZER}/{path.name}")
