"""Benchmark folders as ingest leaves them, and answerers that follow a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tiny_shards import png

from schemas.identity import fingerprint
from schemas.manifest import Counts, Manifest, describe
from schemas.sample import SAMPLE
from train.inference.conversation import Answer, Conversation, Sampling

ADDED = (("references", pa.list_(pa.string())), ("choices", pa.list_(pa.string())), ("category", pa.string()))
SCHEMA = pa.schema([*SAMPLE, *(pa.field(name, kind) for name, kind in ADDED if name not in SAMPLE.names)])

Row = dict[str, Any]


def row(
    question: str,
    references: Sequence[str],
    choices: Sequence[str] | None = None,
    category: str | None = None,
    images: Sequence[tuple[str, bytes]] = (),
) -> Row:
    blocks = [*({"type": "image", "text": None} for _ in images), {"type": "text", "text": question}]
    return {
        "messages": [
            {"role": "user", "content": blocks, "loss": None},
            {"role": "assistant", "content": [{"type": "text", "text": references[0]}], "loss": None},
        ],
        "images": [{"bytes": data, "path": name} for name, data in images],
        "references": list(references),
        "choices": None if choices is None else list(choices),
        "category": category,
    }


def coloured(question: str, colour: str, category: str = "colour", size: tuple[int, int] = (16, 16)) -> Row:
    return row(question, [colour], category=category, images=[(f"{colour}.png", png(colour, size))])


def write_benchmark(
    folder: Path, name: str, rows: Sequence[Row], metric: str = "exact_match", in_parts: int = 2, **scoring: Any
) -> Path:
    """`<folder>/02-ingest-<name>` with its parts and its manifest."""
    place = folder / f"02-ingest-{name}"
    place.mkdir(parents=True)
    files = []
    for part in range(in_parts):
        mine = [
            dict.fromkeys(SCHEMA.names) | {"sample_id": f"{name}/q#{number}", "source": name} | each
            for number, each in enumerate(rows)
            if number * in_parts // len(rows) == part
        ]
        pq.write_table(pa.Table.from_pylist(mine, SCHEMA), place / f"part-{part:05}.parquet")
        files.append(describe(place, f"part-{part:05}.parquet", len(mine)))
    fact = {"name": name, "scoring": {"metric": metric, "prompt": "{question}", "max_new_tokens": 16} | scoring}
    counts = Counts(len(rows), len(rows))
    identity = fingerprint({"files": [file.sha256 for file in files], "scoring": fact["scoring"]})
    made = Manifest("ingest", 1, identity, {}, {}, counts, {name: counts}, tuple(files), {"benchmark": fact})
    (place / "manifest.json").write_text(made.to_json())
    return place


class Scripted:
    """Answers by what the last text says; the last of each `group` first, so never in the order of the questions."""

    def __init__(self, answer: Callable[[str, Conversation], Answer | str], group: int = 3) -> None:
        self.answer, self.group = answer, group
        self.asked: list[str] = []
        self.sampling: Sampling | None = None

    def answers(
        self, conversations: Iterable[Conversation], sampling: Sampling | None = None
    ) -> Iterator[tuple[int, Answer]]:
        self.sampling = sampling
        held: list[tuple[int, Answer]] = []
        for number, conversation in enumerate(conversations):
            text = conversation.messages[-1]["content"][-1]["text"]
            self.asked.append(text)
            said = self.answer(text, conversation)
            held.append((number, said if isinstance(said, Answer) else Answer(said, tokens=1)))
            if len(held) == self.group:
                yield from reversed(held)
                held = []
        yield from reversed(held)
