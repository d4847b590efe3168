"""The step `pretokenise`: samples and verdicts become shards.

Two phases: the text of each part becomes rows (part_rows.py), then rows and images become shards of a size
(shard_files.py). At its end there is one index over all shards, and the tokenizer as it was used lies beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.graph.context import Context
from pipeline.graph.errors import StepError
from pipeline.graph.proof import same_facts, same_rows
from pipeline.graph.stage import Ending, Facts, Phase, Stage, Step, all_of, rows_of_samples
from pipeline.graph.task import Record, records_in
from pipeline.steps import part_rows, shard_card, shard_files
from pipeline.steps.shard_check import check_shards
from pipeline.storage import layout
from pipeline.storage.at_once import at_once
from pipeline.storage.commit import commit_text
from pipeline.storage.part_reader import read
from pipeline.storage.part_writer import PartWriter
from schemas import fingerprints, strict
from schemas.fingerprints import Fingerprints
from schemas.manifest import Counts, FileEntry, Manifest, ManifestError
from schemas.shard import COUNTS, INDEX
from stages import pretokenise
from stages.cells import CELLS, told, total
from stages.chat import ChatError, ChatFormat
from stages.pretokenise import VERDICT, ledger, totals
from stages.shard_rows import PretokeniseParams

_INDEX_ROWS = 1 << 17  # rows of a row group of the whole index, at the least


def _steps(stage: Stage, context: Context, before: Sequence[Step]) -> Iterable[Step]:
    data = context.recipe.data
    filters = tuple(step for step in before if step.stage.makes == "verdicts")
    parameters = {**asdict(data.shards), layout.TOKENIZER: context.content.tokenizer}
    inputs = (*all_of(before, "samples", data.sources), *filters)
    yield Step(stage, "", parameters, data.shards, inputs, brought=part_rows.brought(before))


def _foresee(step: Step, context: Context) -> None:
    part_rows.refuse(step, context, step.params)


def _finish(ending: Ending, writer: PartWriter) -> Facts:
    """One index of all shards in the order of their numbers, the totals, and a card."""
    params, records = ending.step.params, ending.records
    none = {"tokens": asdict(params.tokens), "image_token_id": 0, "vocab_size": 0}
    known = records[0].facts if records else none
    prints = _fingerprints([file for record in records[:1] for file in record.files], params)
    facts = {
        "tiles": asdict(params.tiles),
        "chat": asdict(params.chat),
        **{name: known[name] for name in none},
        "fingerprints": asdict(prints),
        "rows": sum(record.facts["rows"] for record in records),
        CELLS: told(record.facts.get(CELLS, []) for record in records),
        "totals": {name: sum(record.facts["totals"][name] for record in records) for name in COUNTS},
    }
    schema = fingerprints.written(INDEX, prints)
    tables = (_indexes(paths).replace_schema_metadata(schema.metadata) for paths in _grouped(ending.folder, records))
    writer.write(layout.INDEX, schema, tables)
    commit_text(
        ending.folder / shard_card.NAME, shard_card.text(ending.step.name, writer.folder.name, len(records), facts)
    )
    writer.add(shard_card.NAME)
    return Facts(facts)


def _fingerprints(files: Iterable[FileEntry], params: PretokeniseParams) -> Fingerprints:
    """Of the tokenizer among these files, and of the scheme."""
    prefix = f"{layout.TOKENIZER}/"
    tokenizer = {file.name.removeprefix(prefix): file.sha256 for file in files if file.name.startswith(prefix)}
    return fingerprints.taken(tokenizer, asdict(params.tiles))


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
    cells = told(record.facts.get(CELLS, []) for record in records_in(folder, manifest.identity))
    prints = _fingerprints(manifest.files, params)
    if (found := fingerprints.read(index.schema)) != prints:
        raise ManifestError(f"{folder / layout.INDEX}: says fingerprints {found}, its files give {prints}; run again")
    of_params = {"tiles": asdict(params.tiles), "chat": asdict(params.chat), "fingerprints": asdict(prints)}
    same_facts(folder, manifest, {**of_params, **part_rows.of_tokenizer(chat), **of_index, CELLS: cells})
    names = [file.name for file in manifest.files if layout.is_a("verdict", file.name)]
    tables = [read(folder / name, schema=VERDICT) for name in names]
    same_rows(folder, "counts", manifest.counts, sum(map(ledger, tables), Counts()))
    same_rows(folder, "rows", index.num_rows, sum(pc.sum(table["rows"]).as_py() or 0 for table in tables))
    for what, wanted in {"rows": index.num_rows, **totals(index)}.items():
        same_rows(folder, f"{what} of its cells", total(cells, what) if cells else 0, wanted)
    check_shards(folder, manifest)


PRETOKENISE = Stage(
    name="pretokenise",
    number=9,
    version=pretokenise.VERSION,
    makes="shards",
    reasons=pretokenise.REASONS,
    steps=_steps,
    phases=(
        Phase(part_rows.split, part_rows.do, name=shard_files.PHASE),
        Phase(shard_files.split, shard_files.do, word="shards"),
    ),
    foresee=_foresee,
    finish=_finish,
    check=_check,
    verify=_verify,
)
