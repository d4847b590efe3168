"""Raw files: the rows of raw.py, each source in the shape that such data has in the wild; one writer per source.

Reads nothing. Writes, under the folder it is given, and tells where every row went, by serial:

    fine/<subset>/train-0000K-of-0000N.parquet   FineVision's columns; `charts` spells them in another order
    japanese/part-K.parquet                      column names of its own, one picture and one turn per row
    llava/conversations.json, llava/images.zip   one JSON array in LLaVA's shape, images by name
    benchmark/<split>/questions.jsonl, images/*.png   held out: asked, and compared with when decontaminating
"""

from __future__ import annotations

import itertools
import json
import random
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.quickstart.raw import CLEAN_RATINGS, RATINGS, SPLITS, VISUAL_RATINGS, Picture, Place, Row

QUESTIONS = "questions.jsonl"


def write_sources(folder: Path, rows: list[Row], seed: int) -> dict[int, Place]:
    """Write the three sources, each in an order of its own that has nothing to do with how the rows came about."""
    writers = {"fine": _write_fine, "japanese": _write_japanese, "llava": _write_llava}
    places: dict[int, Place] = {}
    for source, write in writers.items():
        mine = [row for row in rows if row.source == source]
        random.Random(f"order/{source}/{seed}").shuffle(mine)
        places |= write(folder / source, mine)
    return places


STRUCTS = {
    "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    "turn": pa.struct([("user", pa.string()), ("assistant", pa.string())]),
    "turn_reversed": pa.struct([("assistant", pa.string()), ("user", pa.string())]),
}


def _rating_fields() -> list[tuple[str, pa.DataType]]:
    pairs = [((f"{name}_ratings", pa.list_(pa.int64())), (f"{name}_min", pa.int64())) for name in RATINGS]
    return [field for pair in pairs for field in pair]


FINE_SCHEMA = pa.schema(
    [
        ("images", pa.list_(STRUCTS["image"])),
        ("texts", pa.list_(STRUCTS["turn"])),
        ("source", pa.string()),
        *_rating_fields(),
    ]
)
CHARTS_SCHEMA = pa.schema(
    [
        *_rating_fields(),
        ("source", pa.string()),
        ("texts", pa.list_(STRUCTS["turn_reversed"])),
        ("images", pa.list_(STRUCTS["image"])),
    ]
)
JAPANESE_SCHEMA = pa.schema(
    [("画像", STRUCTS["image"]), ("質問", pa.string()), ("回答", pa.string()), ("ライセンス", pa.string())]
)


def _write_fine(folder: Path, rows: list[Row]) -> dict[int, Place]:
    shapes = [row for row in rows if row.subset == "shapes"]
    charts = [row for row in rows if row.subset == "charts"]
    files = {f"shapes/train-{k:05d}-of-00002.parquet": part for k, part in enumerate(_halves(shapes))}
    files["charts/train-00000-of-00001.parquet"] = charts
    for name, part in files.items():
        schema = CHARTS_SCHEMA if name.startswith("charts") else FINE_SCHEMA
        _write_parquet(folder / name, [_fine_record(row) for row in part], schema)
    return _places(files)


def _write_japanese(folder: Path, rows: list[Row]) -> dict[int, Place]:
    files = {f"part-{k}.parquet": part for k, part in enumerate(_halves(rows))}
    for name, part in files.items():
        records = [
            {
                "画像": _image_cell(row.pictures[0]) if row.pictures else None,
                "質問": row.turns[0].question,
                "回答": row.turns[0].answer,
                "ライセンス": "CC0-1.0",
            }
            for row in part
        ]
        _write_parquet(folder / name, records, JAPANESE_SCHEMA)
    return _places(files)


def _write_llava(folder: Path, rows: list[Row]) -> dict[int, Place]:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(_llava_record(row), ensure_ascii=False) for row in rows)
    (folder / "conversations.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    pictures = sorted((picture for row in rows for picture in row.pictures), key=lambda picture: picture.name)
    with zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_STORED) as archive:
        for picture in pictures:
            if picture.data is not None:
                archive.writestr(zipfile.ZipInfo(picture.name, (2024, 1, 1, 0, 0, 0)), picture.data)
    return _places({"conversations.json": rows})


def write_benchmark(folder: Path, rows: list[Row]) -> dict[int, Place]:
    """The held-out questions, split by split: JSON lines with image files."""
    files = {f"{split}/{QUESTIONS}": [row for row in rows if row.subset == split] for split in SPLITS}
    for name, part in files.items():
        _write_split(folder / name, part)
    return _places(files)


def _write_split(path: Path, rows: list[Row]) -> None:
    folder = path.parent
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number, row in enumerate(rows):
        image, turn = f"images/{number:04d}.png", row.turns[0]
        (folder / image).write_bytes(row.pictures[0].data or b"")
        facts = {"language": row.language, "kind": row.kind}
        lines.append(
            {"id": f"q{number:04d}", "image": image, "question": turn.question, "answer": turn.answer, **facts}
        )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def _halves(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    middle = (len(rows) + 1) // 2
    return rows[:middle], rows[middle:]


def _places(files: dict[str, list[Row]]) -> dict[int, Place]:
    return {row.serial: (name, number) for name, rows in files.items() for number, row in enumerate(rows)}


def _write_parquet(path: Path, records: Iterable[dict[str, Any]], schema: pa.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(records), schema), path, compression="zstd")


def _image_cell(picture: Picture) -> dict[str, Any]:
    return {"bytes": picture.data, "path": picture.name}


def _fine_record(row: Row) -> dict[str, Any]:
    """FineVision's spelling: images implied before the first turn, one rating per turn and criterion."""
    record: dict[str, Any] = {
        "images": [_image_cell(picture) for picture in row.pictures] or None,
        "texts": [{"user": turn.question, "assistant": turn.answer} for turn in row.turns],
        "source": row.subset or row.source,
    }
    for name in RATINGS:
        rng = random.Random(f"rating/{name}/{row.serial}")
        choices = row.ratings if name == "relevance" else CLEAN_RATINGS
        ratings = [rng.choice(choices) for _ in row.turns] if row.pictures or name not in VISUAL_RATINGS else None
        record |= {f"{name}_ratings": ratings, f"{name}_min": min(ratings) if ratings else None}
    return record


def _llava_record(row: Row) -> dict[str, Any]:
    """LLaVA's spelling, with its quirks: ids of mixed type, placeholders at either end, stray keys."""
    rng = random.Random(f"llava/{row.serial}")
    record: dict[str, Any] = {"id": row.serial if rng.random() < 0.2 else f"{row.serial:09d}"}
    names = [picture.name for picture in row.pictures]
    if names:
        record["image"] = names[0] if len(names) == 1 else names
    if not names or rng.random() < 0.1:
        record["model"] = ""
    marks = ["<image>"] * (len(names) if row.placeholders is None else row.placeholders)
    values = [value for turn in row.turns for value in (turn.question, turn.answer)]
    if values:
        values[0] = "\n".join([values[0], *marks] if rng.random() < 0.4 else [*marks, values[0]])
    speakers = itertools.cycle(("human", "gpt"))
    record["conversations"] = [{"from": speaker, "value": value} for speaker, value in zip(speakers, values)]  # noqa: B905
    return record
