"""The step `pretokenise`: samples and verdicts become shards, a part is a task.

At its end there is one index over all shards, and the tokenizer as it was used lies beside them.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.proof import same_facts, same_rows
from pipeline.graph.stage import Ending, Facts, Phase, Stage, Step, all_of, rows_of_samples
from pipeline.graph.task import Done, Job, Record
from pipeline.steps.samples import Part, parts_of
from pipeline.steps.shard_check import check_shards
from pipeline.storage import layout
from pipeline.storage.at_once import at_once
from pipeline.storage.commit import commit_text
from pipeline.storage.part_reader import read, row_groups
from pipeline.storage.part_writer import PartWriter
from schemas import shard_map, strict
from schemas.manifest import Counts, Manifest, ManifestError
from schemas.shard import COUNTS, INDEX, SHARD
from schemas.strict import RecipeError
from stages import pretokenise
from stages.chat import ChatError, ChatFormat, ImageTokens
from stages.chat_rules import ChatRules
from stages.pretokenise import VERDICT, ledger, totals
from stages.shard_rows import PretokeniseParams
from stages.tokenizer_check import refusal

_INDEX_ROWS = 1 << 17  # rows of a row group of the whole index, at the least


@dataclass(frozen=True, kw_only=True)
class ShardJob(Job):
    """A part, its verdict file of every filter, and the folder of the tokenizer."""

    part: Part
    verdicts: tuple[tuple[str, str], ...]
    tokenizer: str
    params: PretokeniseParams


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    filters = tuple(step for step in before if step.stage.makes == "verdicts")
    parameters = {**asdict(data.pretokenise), layout.TOKENIZER: context.content.tokenizer}
    inputs = (*all_of(before, "samples", data.sources), *filters)
    fetching = [step for step in before if step.stage.makes == "tokenizer"]
    brought = {layout.TOKENIZER: fetching[0]} if fetching else {}
    yield Step(stage, "", parameters, data.pretokenise, inputs, brought=brought)


def _foresee(step: Step, context: Context) -> None:
    """The tokenizer and its template are tried now: all else is done before the first task that needs them."""
    content = context.content.tokenizer
    for fetch in step.brought.values():
        content = fetch.names(context)
    if content is None:
        return  # not fetched yet: as soon as it is, this is asked again
    if why := refusal(_folder(step, context), content, _told(step.params)):
        own = "; for a change of its files copy them, and give the copy as run.locations.tokenizer"
        raise RecipeError(f"data.tokenizer: {why}{own}" if step.brought else f"run.locations.tokenizer: {why}")


def _folder(step: Step, context: Context) -> str:
    """Where the tokenizer lies."""
    fetched = [str(context.out / fetch.folder / layout.FETCHED) for fetch in step.brought.values()]
    return fetched[0] if fetched else str(context.place(layout.TOKENIZER))


def _split(step: Step, context: Context, _: Sequence[Record]) -> list[Job]:
    folders = {judge.stage.name: context.out / judge.folder for judge in step.making("verdicts")}
    return [
        ShardJob(
            amount=part.rows,
            part=part,
            verdicts=tuple((name, str(folder / layout.verdict(number))) for name, folder in folders.items()),
            tokenizer=_folder(step, context),
            params=step.params,
        )
        for number, part in enumerate(parts_of(step.making("samples"), context))
    ]


def _do(job: ShardJob, writer: PartWriter) -> Done:
    chat = _chat(job.tokenizer, _told(job.params))
    verdicts = {name: read(path) for name, path in job.verdicts}
    indexes, judged, counts = [], [], []

    def shards() -> Iterator[pa.Table]:
        groups = row_groups(job.part.path)
        for piece in pretokenise.pretokenise(groups, verdicts, writer.number, chat, job.params):
            indexes.append(piece.index)
            judged.append(piece.verdict)
            counts.append(piece.counts)
            yield piece.shard

    try:
        writer.write(layout.shard(writer.number), SHARD, shards())
    except pretokenise.Damaged as error:
        raise ManifestError(f"{job.part.path}: {error}; delete the folder and run its stage again") from None
    _save_map(writer)
    index = pa.concat_tables(indexes).combine_chunks()
    writer.write(layout.index_part(writer.number), INDEX, [index])
    writer.write(layout.verdict(writer.number), VERDICT, [pa.concat_tables(judged).combine_chunks()])
    facts = {"rows": index.num_rows, "totals": totals(index), **_of_tokenizer(chat)}
    if not writer.number:
        _save_tokenizer(chat, writer)
    return Done({job.part.source: sum(counts, Counts())}, facts)


@functools.lru_cache(maxsize=2)
def _chat(folder: str, given: str) -> ChatFormat:
    tokens, rules = (json.loads(given)[name] for name in ("tokens", "chat"))
    return ChatFormat.load(folder, ImageTokens(**tokens), strict.build(ChatRules, rules))


def _told(params: PretokeniseParams) -> str:
    """What of a recipe a ChatFormat is made by, as JSON: a text is the same wherever it is."""
    return json.dumps({"tokens": asdict(params.tokens), "chat": asdict(params.chat)})


def _of_tokenizer(chat: ChatFormat) -> dict[str, Any]:
    """The facts that the tokenizer decides: the tokens with the ids that they have in it."""
    return {
        "tokens": asdict(chat.image_tokens),
        "image_token_id": chat.image_token_id,
        "vocab_size": chat.vocab_size,
    }


def _save_map(writer: PartWriter) -> None:
    """What lies where in the shard, with hashes: the trainer proves each batch before its first use."""
    shard, name = writer.folder / layout.shard(writer.number), layout.shard_map(writer.number)
    commit_text(writer.folder / name, shard_map.survey(shard).to_json())
    writer.add(name)


def _save_tokenizer(chat: ChatFormat, writer: PartWriter) -> None:
    """The tokenizer as it was used, beside the shards; the first task does it."""
    folder = writer.folder / layout.TOKENIZER
    chat.save(folder)
    for path in sorted(folder.iterdir()):
        writer.add(f"{layout.TOKENIZER}/{path.name}")


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    """One index of all shards in the order of their numbers, and the totals."""
    params, records = ending.step.params, ending.records
    writer.write(layout.INDEX, INDEX, map(_indexes, _grouped(ending.folder, records)))
    none = {"tokens": asdict(params.tokens), "image_token_id": 0, "vocab_size": 0}
    known = records[0].facts if records else none
    return Facts(
        {
            "tiles": asdict(params.tiles),
            "chat": asdict(params.chat),
            **{name: known[name] for name in none},
            "rows": sum(record.facts["rows"] for record in records),
            "totals": {name: sum(record.facts["totals"][name] for record in records) for name in COUNTS},
        }
    )


def _grouped(folder: Path, records: Sequence[Record]) -> Iterator[list[Path]]:
    """Indexes of shards that make a row group: one for each would make a footer of megabytes, slow to read."""
    group: list[Path] = []
    held = 0
    for record in records:
        group.append(folder / layout.index_part(record.number))
        held += record.facts["rows"]
        if held >= _INDEX_ROWS:
            yield group
            group, held = [], 0
    if group:
        yield group


def _indexes(paths: Sequence[Path]) -> pa.Table:
    tables = at_once(lambda path: read(path, threads=False), paths, together=1)
    return pa.concat_tables(tables).combine_chunks()


def _check(step: Step, manifest: Manifest, context: Context) -> None:
    """The ledger across steps, and that something is left to train on."""
    rows_of_samples(step, manifest, context)
    if manifest.counts.kept:
        return
    rows_in, left_out = 0, Counter[str]()
    for needed in step.making("samples"):
        counts = context.finished(needed).counts
        rows_in += counts.rows_in
        left_out.update({f"{needed.stage.name}.{reason}": n for reason, n in counts.rejected.items()})
    left_out.update(manifest.counts.dropped)
    why = ", ".join(f"{reason} {n:,}" for reason, n in left_out.items()) or "the sources are empty"
    raise StepError(
        f"{step.name}: no sample is left of {rows_in:,} rows ({why}); nothing to train on; "
        "`python -m pipeline rejects RECIPE` and `show RECIPE SAMPLE` tell more"
    )


def _verify(folder: Path, manifest: Manifest) -> None:
    """The facts are those of the parameters, of the tokenizer that lies here, and of the index; then the shards."""
    own = {key: value for key, value in manifest.parameters.items() if key != layout.TOKENIZER}
    try:
        params = strict.build(PretokeniseParams, own)
        chat = ChatFormat.load(folder / layout.TOKENIZER, params.tokens, params.chat)
    except (ValueError, ChatError) as error:
        raise ManifestError(f"{folder}: its tokenizer can't be read ({error}); run its stage again") from None
    index = read(folder / layout.INDEX, schema=INDEX)
    of_index = {"rows": index.num_rows, "totals": totals(index)}
    of_params = {"tiles": asdict(params.tiles), "chat": asdict(params.chat)}
    same_facts(folder, manifest, {**of_params, **_of_tokenizer(chat), **of_index})
    names = [file.name for file in manifest.files if layout.is_a("verdict", file.name)]
    tables = [read(folder / name, schema=VERDICT) for name in names]
    same_rows(folder, "counts", manifest.counts, sum(map(ledger, tables), Counts()))
    same_rows(folder, "rows", index.num_rows, sum(pc.sum(table["rows"]).as_py() or 0 for table in tables))
    check_shards(folder, manifest)


PRETOKENISE = Stage(
    name="pretokenise",
    number=7,
    version=pretokenise.VERSION,
    makes="shards",
    reasons=pretokenise.REASONS,
    steps=_steps,
    phases=(Phase(_split, _do),),
    foresee=_foresee,
    finish=_finish,
    check=_check,
    verify=_verify,
)
