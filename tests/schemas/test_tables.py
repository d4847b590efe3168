"""SAMPLE, REJECT, VERDICT, SHARD and INDEX on disk: what is written is read back, by us and by `datasets`."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.sample import IMAGE_INFO, REJECT, SAMPLE, sample_id
from schemas.shard import COUNTS, INDEX, SHARD
from schemas.verdict import verdict_schema


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


INFO = {
    "sha256": "ab" * 32,
    "size": 3_000_000_000,
    "width": 6,
    "height": 4,
    "format": "PNG",
    "mode": "RGB",
    "orientation": 8,
    "frames": 1,
    "phash": 2**64 - 1,
    "grey": bytes(range(256)) * 4,
    "detail": bytes(2 * 22 * 22),
    "plain": 255,
}


def sample(number: int, images: list[bytes]) -> dict[str, Any]:
    marks = [{"type": "image", "text": None} for _ in images]
    return {
        "sample_id": sample_id("日本", "a/b.parquet", number),
        "source": "日本",
        "subset": "a",
        "licence": "cc0",
        "messages": [
            {"role": "user", "content": [*marks, {"type": "text", "text": "何ですか?\n"}], "loss": None},
            {"role": "assistant", "content": [{"type": "text", "text": "😀"}], "loss": False},
        ],
        "images": [{"bytes": data, "path": None if number else "x.png"} for data in images],
        "image_info": [INFO for _ in images],
        "scores": [{"name": "relevance_min", "value": 4.5}] if number else [],
        "turn_scores": [{"name": "relevance_ratings", "values": [4.5, None]}] if number else [],
        "declared_language": None if number else "ja",
        "references": ["B"] if number == 1 else None,
        "choices": ["いいえ", "はい"] if number == 1 else None,
        "category": "はい・いいえ" if number == 1 else None,
    }


ROWS = [sample(0, [png("red")]), sample(1, [png("red"), png("blue")]), sample(2, [])]

SHARD_ROW = {
    "sample_id": "a#0",
    "source": "a",
    "subset": "b",
    "licence": None,
    "language": None,
    "input_ids": [1, 2, 2, 3],
    "target_spans": [[1, 2], [3, 4]],
    "label_changes": [{"position": 3, "id": 9}],
    "images": [{"bytes": b"\xff\xd8", "path": None}],
    "image_sha256": ["ab" * 32],
    "tiles": [
        {
            "scheme": "internvl",
            "rows": 1,
            "cols": 2,
            "thumbnail": True,
            "width": 6,
            "height": 4,
            "start": 1,
            "num_tokens": 2,
        }
    ],
    **{name: number for number, name in enumerate(COUNTS)},
    "scores": [{"name": "language.confidence", "value": 0.5}],
    "messages": ROWS[0]["messages"],
}


def test_samples_come_back_from_parquet(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS, SAMPLE)
    pq.write_table(table, tmp_path / "part.parquet", row_group_size=2)
    back = pq.read_table(tmp_path / "part.parquet")
    assert back.schema.equals(SAMPLE)
    assert back.to_pylist() == ROWS


def test_text_only_parts_keep_the_schema_and_join_with_the_others(tmp_path: Path) -> None:
    for name, rows in (("text", ROWS[2:]), ("images", ROWS[:2]), ("none", [])):
        pq.write_table(pa.Table.from_pylist(rows, SAMPLE), tmp_path / f"{name}.parquet")
    tables = [pq.read_table(tmp_path / f"{name}.parquet") for name in ("images", "text", "none")]
    assert pa.concat_tables(tables).to_pylist() == ROWS


def test_a_sample_file_loads_as_images_in_datasets(tmp_path: Path) -> None:
    import datasets

    pq.write_table(pa.Table.from_pylist(ROWS, SAMPLE), tmp_path / "part.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own housekeeping
        loaded = datasets.load_dataset(
            "parquet", data_files=str(tmp_path / "part.parquet"), split="train", cache_dir=str(tmp_path / "cache")
        )
        loaded = loaded.cast_column("images", datasets.List(datasets.Image()))
        pictures = [row["images"] for row in loaded]
    assert [[picture.getpixel((0, 0)) for picture in row] for row in pictures] == [
        [(255, 0, 0)],
        [(255, 0, 0), (0, 0, 255)],
        [],
    ]
    assert [row["role"] for row in loaded[0]["messages"]] == ["user", "assistant"]
    assert loaded[1]["sample_id"] == "日本/a/b.parquet#1"
    assert [loaded[n][name] for n in (0, 1) for name in ("references", "choices", "category")] == [
        *(None, None, None),
        *(["B"], ["いいえ", "はい"], "はい・いいえ"),
    ]


@pytest.mark.parametrize("name", ["grey", "detail"])
def test_a_luminance_or_detail_of_another_size_is_refused(name: str) -> None:
    with pytest.raises(pa.ArrowInvalid):
        pa.array([[{**INFO, name: b"short"}]], IMAGE_INFO)


def test_shards_come_back_from_memory_mapped_ipc(tmp_path: Path) -> None:
    rows = [
        SHARD_ROW,
        {**SHARD_ROW, "images": [], "image_sha256": [], "tiles": [], "target_spans": [[0, 1]], "label_changes": []},
    ]
    with pa.OSFile(str(tmp_path / "shard.arrow"), "wb") as sink, pa.ipc.new_file(sink, SHARD) as writer:
        writer.write_table(pa.Table.from_pylist(rows, SHARD), max_chunksize=1)
    with pa.memory_map(str(tmp_path / "shard.arrow")) as source:
        back = pa.ipc.open_file(source).read_all()
        assert back.schema.equals(SHARD)
        assert back.to_pylist() == rows


def test_a_target_span_has_two_ends() -> None:
    with pytest.raises(pa.ArrowInvalid):
        pa.Table.from_pylist([{**SHARD_ROW, "target_spans": [[1, 2, 3]]}], SHARD)


def test_index_and_rejects_come_back_from_parquet(tmp_path: Path) -> None:
    index = [{name: SHARD_ROW.get(name, 7) for name in INDEX.names}]
    reject = [{"sample_id": "a#1", "source": "a", "file": "f", "row": 2**40, "reason": "r", "detail": "d\0\n"}]
    for rows, schema in ((index, INDEX), (reject, REJECT)):
        pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "t.parquet")
        assert pq.read_table(tmp_path / "t.parquet").to_pylist() == rows


def test_evidence_may_not_shadow_a_verdict_column() -> None:
    with pytest.raises(ValueError, match=r"\['reason'\]"):
        verdict_schema(pa.schema([("reason", pa.int32()), ("distance", pa.int32())]))
    assert verdict_schema(pa.schema([("distance", pa.int32())])).names == ["sample_id", "reason", "distance"]
