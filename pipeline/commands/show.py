"""One sample, whole: origin, messages, images, every verdict with its evidence, tile grid, decoded tokens with targets.

Finds a sample by its id (`source/file#row`) in the parts of its source; a row that never became a sample is found among
the rejects, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.text import Text

from pipeline.commands.named import named_by, place_of, row_of, stand_behind
from pipeline.commands.terminal import plain
from pipeline.graph.context import Context
from pipeline.graph.stage import Step
from pipeline.steps.samples import parts_of
from pipeline.storage import layout
from pipeline.storage.part_reader import read, row_groups
from schemas import manifest, strict
from schemas.manifest import ManifestError
from schemas.shown import shown, shown_lines
from schemas.strict import RecipeError
from stages.chat import ChatFormat, ImageTokens
from stages.chat_rules import ChatRules
from stages.split import is_of

_BEHIND = 5  # samples that are named, of those that were dropped in favour of one


def show(steps: Sequence[Step], context: Context, sample_id: str, console: Console | None = None) -> None:
    """Print what is known of `sample_id`. Raises RecipeError if no source has such a row."""
    console = console or plain()
    last = steps[-1]
    ready = [step for step in (*last.inputs, last) if context.manifest(step) is not None]
    ingested = [step for step in ready if step.stage.makes == "samples"]
    if not ingested:
        raise RecipeError(f"{sample_id}: nothing is ingested yet; run `python -m pipeline run RECIPE` first")
    if reject := _rejected(ingested, context.out, sample_id):
        _print_fields(console, "rejected at ingest", reject)
        return
    place = _place(last, context, sample_id)
    if place is None:
        example = _example(ingested, context)
        raise RecipeError(f"{sample_id}: no such row; an id is source/file#row, e.g. {example}")
    number, path, row = place
    _print_sample(console, row_of(path, row))
    for step in ready:
        if step.stage.makes in ("verdicts", "shards"):
            verdict = read(context.out / step.folder / layout.verdict(number)).slice(row, 1).to_pylist()[0]
            _print_verdict(console, step.stage.name, verdict)
            _print_others(console, step, context, verdict)
    if last in ready:
        _print_tokens(console, context.out / last.folder, sample_id)


def _rejected(ingested: Sequence[Step], out: Path, sample_id: str) -> dict[str, Any] | None:
    for step in ingested:
        for path in sorted((out / step.folder).glob("rejected-*.parquet")):
            table = read(path)
            row = pc.index(table["sample_id"], sample_id).as_py()
            if row >= 0:
                return dict(table.slice(row, 1).to_pylist()[0])
    return None


def _place(last: Step, context: Context, sample_id: str) -> tuple[int, str, int] | None:
    """(part number, file, row in it) of a sample; part numbers count over all sources."""
    sources = last.making("samples")
    if not all(map(context.manifest, sources)):
        return None
    return place_of(sources, context, sample_id)


def _example(ingested: Sequence[Step], context: Context) -> str:
    for part in parts_of(ingested, context):
        ids = read(part.path, ["sample_id"])["sample_id"]
        if len(ids):
            return str(ids[0].as_py())
    return "llava/conversations.json#0"


def _print_sample(console: Console, one: Mapping[str, Any]) -> None:
    fields = {name: one[name] for name in ("sample_id", "source", "subset", "licence", "declared_language")}
    scores = ", ".join(f"{score['name']} {score['value']:g}" for score in one["scores"] or [])
    _print_fields(console, "sample", {**fields, "scores": scores or None})
    _print_content(console, one)


def _print_others(console: Console, step: Step, context: Context, verdict: Mapping[str, Any]) -> None:
    """The sample that a verdict names, and those that were dropped in favour of this one."""
    if found := named_by(verdict):
        other = place_of((*step.making("samples"), *step.benchmarks), context, found[1])
        console.print(Text(f"  {found[0]}: {shown(found[1])}", "bold"))
        if other is not None:  # a benchmark's that came as a sketch is not here
            _print_content(console, row_of(*other[1:]))
    behind = stand_behind(step, context, verdict["sample_id"]) if verdict["reason"] is None else []
    if behind:
        more = f" and {len(behind) - _BEHIND:,} more" if len(behind) > _BEHIND else ""
        console.print(f"  dropped in favour of it: {shown(', '.join(behind[:_BEHIND]))}{more}")


def _print_content(console: Console, one: Mapping[str, Any]) -> None:
    for message in one["messages"]:
        text = "".join("[image]" if b["type"] == "image" else b["text"] for b in message["content"])
        console.print(Text.assemble("  ", (shown_lines(message["role"]), "bold"), f"  {shown_lines(text)}"))
    for image, info in zip(one["images"], one["image_info"], strict=True):
        size = f"{info['width']} x {info['height']} {info['format']} {info['mode']}"
        notes = f"orientation {info['orientation']}, {info['frames']} frame(s), {len(image['bytes']):,} bytes"
        name = shown(image["path"]) if image["path"] else "without a name"
        console.print(f"  image {name}: {size}, {notes}, sha256 {info['sha256'][:16]}")


def _print_verdict(console: Console, stage: str, verdict: Mapping[str, Any]) -> None:
    evidence = {k: v for k, v in verdict.items() if k not in ("sample_id", "reason") and v is not None}
    outcome = ("keep", "green") if verdict["reason"] is None else (f"drop: {verdict['reason']}", "red")
    told = shown(", ".join(f"{k} {_rounded(v)}" for k, v in evidence.items()))
    console.print(Text.assemble(f"{stage:<14} ", outcome, f"  {told}"))


def _rounded(value: Any) -> Any:
    """The same with four digits of every number that is no whole one."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def _print_tokens(console: Console, folder: Path, sample_id: str) -> None:
    samples = [_shard_row(folder, **place) for place in _places(folder, sample_id)]
    if not samples:
        return
    facts = manifest.read(folder).facts
    chat = ChatFormat.load(folder / "tokenizer", ImageTokens(**facts["tokens"]), strict.build(ChatRules, facts["chat"]))
    for sample in samples:
        if len(samples) > 1:
            console.print(f"piece          {shown(sample['sample_id'])}")
        _print_row(console, chat, sample, facts["image_token_id"])


def _places(folder: Path, sample_id: str) -> list[dict[str, int]]:
    """Where a sample, or its pieces, lie: shard and row."""
    found: list[dict[str, int]] = []
    for table in row_groups(folder / layout.INDEX, ["sample_id", "shard", "row"]):
        near = table.filter(pc.starts_with(table["sample_id"], sample_id)).to_pylist()
        found += [{"shard": one["shard"], "row": one["row"]} for one in near if is_of(one["sample_id"], sample_id)]
    return found


def _shard_row(folder: Path, shard: int, row: int) -> dict[str, Any]:
    """A row of a shard without its images."""
    with pa.memory_map(str(folder / layout.shard(shard))) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            if row < batch.num_rows:
                return dict(batch.drop_columns(["images"]).slice(row, 1).to_pylist()[0])
            row -= batch.num_rows
    raise ManifestError(f"{folder / layout.shard(shard)}: has no row {row}; run `python -m pipeline verify`")


def _print_row(console: Console, chat: ChatFormat, sample: Mapping[str, Any], image: int) -> None:
    for tile in sample["tiles"]:
        thumbnail = " + thumbnail" if tile["thumbnail"] else ""
        size = f"an image {tile['width']} wide and {tile['height']} high"
        grid = f"{tile['rows']} rows x {tile['cols']} columns{thumbnail}"
        console.print(f"tiles          {grid} of {size}, {tile['num_tokens']} tokens")
    parts = f"{sample['num_text_tokens']} text + {sample['num_image_tokens']} image"
    targets = f"{sample['num_target_tokens']} of them targets ({'reversed' if console.is_terminal else 'in « »'} below)"
    console.print(f"tokens         {sample['num_tokens']} = {parts}, {targets}")
    console.print(_marked(chat, sample, image, console.is_terminal))


def _marked(chat: ChatFormat, sample: Mapping[str, Any], image: int, terminal: bool) -> Text:
    """The decoded ids, runs of image tokens shortened; targets reversed, or in marks where there is no terminal."""
    ids, text, start = sample["input_ids"], Text(), 0
    for begin, end in [*map(tuple, sample["target_spans"]), (len(ids), len(ids))]:
        text.append(_plain(chat, ids[start:begin], image))
        if target := shown_lines(chat.decode(ids[begin:end], False)):
            text.append(target if terminal else f"«{target}»", "reverse" if terminal else None)
        start = end
    return text


def _plain(chat: ChatFormat, ids: Sequence[int], image: int) -> str:
    token = chat.image_tokens.image
    decoded = chat.decode(ids, False)
    return shown_lines(re.sub(f"({re.escape(token)})+", lambda m: f"{token} x {m.group().count(token)}", decoded))


def _print_fields(console: Console, title: str, fields: Mapping[str, Any]) -> None:
    console.print(Text(title, "bold"))
    for name, value in fields.items():
        if value not in (None, []):
            console.print(f"  {name:<18} {shown_lines(str(value))}")
