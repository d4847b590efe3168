"""A corpus for one seed: sources of every shape, most of them sound, some broken, and a recipe on them.

What was put in is remembered, to compare with what comes out.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.hostile import EXTRA, WORDS, altered, damaged, picture, put_oddities
from tests.pipeline.tiny_corpus import tokenizer

Row = dict[str, Any]
Written = tuple[str, int]  # the pattern of the files, and how many rows they hold


@dataclass
class Made:
    """`texts`: every text in the records; `pictures`: the bytes of every picture; `rows`: how many records a source
    has, of those whose files are whole."""

    recipe: dict[str, Any]
    texts: list[str] = field(default_factory=list)
    pictures: set[bytes] = field(default_factory=set)
    rows: dict[str, int] = field(default_factory=dict)


def make(folder: Path, draw: Random) -> Made:
    """Sources, a tokenizer and a recipe below `folder`."""
    names = [f"s{number}" for number in range(draw.choice((1, 1, 2, 3)))]
    made = Made(_recipe(folder, names, draw))
    tokenizer(folder / "tokenizer")
    for name in names:
        (folder / name).mkdir()
        made.recipe["data"]["sources"][name] = _source(folder / name, name, draw, made)
        patterns = made.recipe["data"]["sources"][name]["files"]
        before = sorted((folder / name).glob(patterns[0]))
        put_oddities(folder / name, draw)
        if sorted((folder / name).glob(patterns[0])) != before:
            made.rows.pop(name, None)  # one of them passes for a file of records
    if draw.random() < 0.12:
        made.recipe = {**made.recipe, "data": altered(made.recipe["data"], draw)}
    return made


def _recipe(folder: Path, names: list[str], draw: Random) -> dict[str, Any]:
    filters: dict[str, Any] = {
        "dedupe": {},
        "language": {"keep": draw.choice((["en"], ["en"], ["en", "ja"])), "min_confidence": 0.2},
        "quality": {},
    }
    data = {
        "sources": {},
        "ingest": {"rows_per_part": draw.choice((1, 3, 6, 64))},
        **_mixture(draw),
        **{name: value for name, value in filters.items() if draw.random() < 0.5},
        "pretokenise": {
            "tiles": {"scheme": "internvl", "tile": 16, "patch": 4, "merge": 2, "max_tiles": draw.choice((1, 2, 6))},
            "tokens": {"image": "<image>", "start": "<img>", "end": "</img>"},
            "max_tokens": draw.choice((64, 300, 8192)),
        },
    }
    places = {name: str(folder / name) for name in (*names, "tokenizer")}
    return {"data": data, "run": {"out": str(folder / "out"), "locations": places}}


def _mixture(draw: Random) -> dict[str, Any]:
    """Drawn beside the others, so that seeds make what they made before there was one."""
    beside = Random()
    beside.setstate(draw.getstate())
    said = {"by": beside.choice(("samples", "tokens")), "caps": {"source": 20, "subset": 9}, "at_most": 9000}
    return {"mixture": said} if beside.random() < 0.5 else {}


def _source(folder: Path, name: str, draw: Random, made: Made) -> dict[str, Any]:
    shape = draw.choice(sorted(SHAPES))
    rows = [SHAPES[shape](number, folder, draw, made) for number in range(draw.choice((1, 2, 5, 12, 40)))]
    for number in range(len(rows)):
        if draw.random() < 0.15:
            rows[number] = altered(rows[number], draw)
        if isinstance(rows[number], dict) and draw.random() < 0.05:
            rows[number] = {**rows[number], **dict([draw.choice(sorted(EXTRA.items()))])}
    made.texts += [text for row in rows for text in _texts(row)]
    writer = WRITERS[shape if shape in WRITERS else draw.choice(("jsonl", "json", "parquet"))]
    pattern, written = writer(folder, rows, draw)
    if draw.random() < 0.2:
        victim = draw.choice(sorted(folder.glob(pattern)))
        victim.write_bytes(damaged(victim.read_bytes(), draw))
    else:
        made.rows[name] = written
    images = draw.choice((".", "images")) if shape in ("conversations", "caption") else None
    return {"format": shape, "files": [pattern], **({"images": images} if images else {})}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


# ---- one record of each shape ---------------------------------------------------------------------------------------


def _said(draw: Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randrange(1, 12))) + draw.choice((".", "?", "。"))


def _drawn(draw: Random, made: Made) -> bytes:
    """The bytes of a picture, of which one in eight is damaged."""
    data = damaged(picture(draw), draw) if draw.random() < 0.12 else picture(draw)
    made.pictures.add(data)
    return data


def _file(number: int, folder: Path, draw: Random, made: Made) -> str:
    """A picture in the folder; sometimes it is missing there."""
    for place in (folder, folder / "images"):
        place.mkdir(exist_ok=True)
        if draw.random() < 0.95:
            (place / f"{number}.png").write_bytes(_drawn(draw, made))
    return f"{number}.png"


def _conversations(number: int, folder: Path, draw: Random, made: Made) -> Row:
    marks = "<image>\n" if draw.random() < 0.7 else ""
    image = {"image": _file(number, folder, draw, made)} if marks else {}
    turns = [{"from": "human", "value": marks + _said(draw)}, {"from": "gpt", "value": _said(draw)}]
    return {"id": number, **image, "conversations": turns * draw.choice((1, 1, 2))}


def _messages(number: int, folder: Path, draw: Random, made: Made) -> Row:
    content: list[Row] = [{"type": "text", "text": _said(draw)}]
    if draw.random() < 0.5:
        inline = base64.b64encode(_drawn(draw, made)).decode()
        content.insert(0, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{inline}"}})
    return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": _said(draw)}]}


def _texts_row(number: int, folder: Path, draw: Random, made: Made) -> Row:
    images = [{"bytes": _drawn(draw, made), "path": None} for _ in range(draw.choice((0, 1, 1, 2)))]
    pairs = [{"user": _said(draw), "assistant": _said(draw)} for _ in range(draw.choice((1, 2)))]
    return {"images": images, "texts": pairs, "relevance_min": draw.choice((1, 5))}


def _alpaca(number: int, folder: Path, draw: Random, made: Made) -> Row:
    return {"instruction": _said(draw), "input": draw.choice(("", _said(draw))), "output": _said(draw)}


def _question_answer(number: int, folder: Path, draw: Random, made: Made) -> Row:
    return {"question": _said(draw), "answer": _said(draw)}


def _caption(number: int, folder: Path, draw: Random, made: Made) -> Row:
    return {"image": _file(number, folder, draw, made), "caption": _said(draw)}


def _tar_sample(number: int, folder: Path, draw: Random, made: Made) -> Row:
    return {"jpg": _drawn(draw, made), "json": {"caption": _said(draw)}}


def _text(number: int, folder: Path, draw: Random, made: Made) -> Row:
    return {"text": _said(draw)}


SHAPES: dict[str, Callable[[int, Path, Random, Made], Row]] = {
    "conversations": _conversations,
    "messages": _messages,
    "texts": _texts_row,
    "alpaca": _alpaca,
    "question_answer": _question_answer,
    "caption": _caption,
    "webdataset": _tar_sample,
    "text": _text,
}


# ---- files ----------------------------------------------------------------------------------------------------------


def _json(folder: Path, rows: list[Row], draw: Random) -> Written:
    (folder / "rows.json").write_text(json.dumps(rows, default=_encoded), encoding="utf-8")
    return "*.json", len(rows)


def _jsonl(folder: Path, rows: list[Row], draw: Random) -> Written:
    cut = draw.randrange(len(rows) + 1)
    for name, part in (("a", rows[:cut]), ("b", rows[cut:])):
        lines = "".join(json.dumps(row, default=_encoded) + "\n" for row in part).encode()
        if draw.random() < 0.2:
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
        else:
            (folder / f"{name}.jsonl").write_bytes(lines)
    return "*.jsonl*", len(rows)


def _encoded(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else repr(value)


def _parquet(folder: Path, rows: list[Row], draw: Random) -> Written:
    """A file for all rows of one type; a row that Arrow can't hold is left out."""
    groups: list[list[Row]] = []
    for row in rows:
        if groups and _table([*groups[-1], row]) is not None:
            groups[-1].append(row)
        elif _table([row]) is not None:
            groups.append([row])
    for number, group in enumerate(groups or [[{"texts": None}]]):
        size, compression = draw.choice((1, 7, 100)), draw.choice(("none", "snappy", "zstd"))
        pq.write_table(_table(group), folder / f"{number}.parquet", row_group_size=size, compression=compression)
    return "*.parquet", sum(map(len, groups)) or 1


def _table(rows: list[Row]) -> pa.Table | None:
    """All rows as columns of the types and names that the first has."""
    try:
        first = pa.Table.from_pylist(rows[:1])
        if any(row.keys() != rows[0].keys() for row in rows) or not first.schema.names:
            return None
        table = pa.Table.from_pylist(rows, first.schema)
        pq.write_table(table, io.BytesIO())
    except (pa.ArrowException, OverflowError, AttributeError, TypeError, ValueError):
        return None
    return table


def _tar(folder: Path, rows: list[Row], draw: Random) -> Written:
    written = 0
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number, row in enumerate(rows):
            for suffix, value in row.items() if isinstance(row, dict) else ():
                data = value if isinstance(value, bytes) else json.dumps(value, default=repr).encode()
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            written += isinstance(row, dict) and bool(row)
    return "*.tar", written


WRITERS: dict[str, Callable[[Path, list[Row], Random], Written]] = {
    "json": _json,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "webdataset": _tar,
}
