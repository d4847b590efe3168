"""What published datasets have been seen to do, from files on disk to samples and rejects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.ingest import IngestParams, ingest
from stages.sources.declaration import Source
from stages.sources.records.slices import read, slices
from tests.stages.pictures import encoded, images_in, joined, photo

ROOT = Path(__file__).parents[3]
PNG = encoded(photo(1, 20, 10))
TALK = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
SEEN = [{"from": "human", "value": "What?\n<image>"}, {"from": "gpt", "value": "A cat."}]


def ingested(path: Path, format: Any, rows: int = 100, **options: Any) -> Any:
    source = Source(format, ("*",), **options)
    pairs = [pair for part in slices(path, path.name, rows) for pair in read(path, part)]
    return joined(ingest(pairs, "src", path.name, source, images_in(path.parent), IngestParams()))


def written(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_ids_of_mixed_type_and_keys_that_come_late(tmp_path: Path, suffix: str) -> None:
    """Schemas inferred from the first rows fail here, or lose the later keys."""
    records: list[dict[str, Any]] = [{"id": f"{n:09}", "conversations": TALK} for n in range(3000)]
    records[1500] = {"id": 2433684022797.0, "image": "a.png", "language": "ko", "conversations": SEEN}
    records[2000] = {"id": 7, "model": "", "url": None, "conversations": [{**TALK[0], "markdown": None}, TALK[1]]}
    records[2500] = {
        "id": None,
        "image": ["a.png", "a.png"],
        "conversations": [{**SEEN[0], "value": "<image>" * 2}, SEEN[1]],
    }
    (tmp_path / "a.png").write_bytes(PNG)
    path = tmp_path / f"a{suffix}"
    path.write_text(json.dumps(records) if suffix == ".json" else "\n".join(map(json.dumps, records)))
    done = ingested(path, "conversations", 700)
    assert done.counts.kept == done.counts.rows_in == 3000
    images = done.samples["images"].to_pylist()
    assert {n: len(found) for n, found in enumerate(images) if found} == {1500: 1, 2500: 2}
    assert done.samples["declared_language"][1500].as_py() == "ko"


def test_subsets_with_columns_and_fields_in_another_order(tmp_path: Path) -> None:
    user, assistant = ("user", pa.string()), ("assistant", pa.string())
    image = [{"bytes": PNG, "path": None}]
    orders = {
        "a.parquet": (["images", "texts", "source"], [user, assistant]),
        "b.parquet": (["source", "texts", "images"], [assistant, user]),
    }
    found = []
    for name, (columns, fields) in orders.items():
        row = {"images": image, "texts": [{"user": "q", "assistant": "a"}], "source": "x"}
        types = {
            "images": pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "texts": pa.list_(pa.struct(fields)),
            "source": pa.string(),
        }
        schema = pa.schema([(column, types[column]) for column in columns])
        path = written(tmp_path / name, pa.Table.from_pylist([row], schema))
        found.append(ingested(path, "texts").samples.drop_columns(["sample_id", "subset"]).to_pylist())
    assert found[0] == found[1] and found[0][0]["messages"][1]["content"][0]["text"] == "a"


def test_a_text_only_shard_has_columns_of_type_null(tmp_path: Path) -> None:
    table = pa.table(
        {"images": pa.nulls(2), "texts": [[{"user": "q", "assistant": "a"}]] * 2, "relevance_min": pa.nulls(2)}
    )
    done = ingested(written(tmp_path / "a.parquet", table), "texts")
    assert done.counts.kept == 2 and done.samples["images"].to_pylist() == [[], []]
    table = pa.table({"image": [{"bytes": PNG, "path": None}, None], "conversations": [SEEN, TALK]})
    assert ingested(written(tmp_path / "b.parquet", table), "conversations").counts.kept == 2


def test_a_mark_whose_image_cell_is_empty_is_a_reject(tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": None, "path": None}, None], "conversations": [SEEN, SEEN]})
    done = ingested(written(tmp_path / "a.parquet", table, row_group_size=1), "conversations")
    assert done.counts.rejected == {"image_missing": 1, "placeholder_mismatch": 1}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("group", [7, 100, 1000])
def test_row_groups_of_nested_images_are_read_in_batches(tmp_path: Path, kind: pa.DataType, group: int) -> None:
    """A row group above 2 GiB of nested bytes can be read in no other way; small ones take the same path."""
    type_ = pa.list_(pa.struct([("bytes", kind), ("path", pa.string())]))
    images = [[{"bytes": PNG, "path": f"{n}.png"}] * (n % 3) for n in range(150)]
    texts = [[{"user": "q", "assistant": str(n)}] for n in range(150)]
    table = pa.table({"images": pa.array(images, type_), "texts": texts})
    done = ingested(written(tmp_path / "a.parquet", table, row_group_size=group), "texts", 40)
    assert [len(found) for found in done.samples["images"].to_pylist()] == [n % 3 for n in range(150)]


def test_names_lie_about_formats_and_have_dots(tmp_path: Path) -> None:
    """Files called .jpg that are GIF, .webp that are JPEG: the bytes count, and stay as they are."""
    kinds = {"1.0.jpg": "GIF", "2.webp": "JPEG", "3.jpg": "WEBP", "4.jpg": "PNG"}
    for name, kind in kinds.items():
        (tmp_path / name).write_bytes(encoded(photo(1, 20, 10), kind))
    (tmp_path / "a.json").write_text(json.dumps([{"image": name, "conversations": SEEN} for name in kinds]))
    done = ingested(tmp_path / "a.json", "conversations")
    assert [info[0]["format"] for info in done.samples["image_info"].to_pylist()] == list(kinds.values())


def test_ids_that_are_not_unique_make_samples_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"id": "same", "conversations": TALK}] * 3))
    done = ingested(tmp_path / "a.json", "conversations")
    assert done.samples["sample_id"].to_pylist() == [f"src/a.json#{n}" for n in range(3)]


_PEAK = """
import sys
from pathlib import Path
from stages.sources.records.slices import read, slices
path = Path(sys.argv[1])
part = slices(path, path.name, 64)[-1]
rows = sum(1 for _ in read(path, part))
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(rows, peak)
"""


@pytest.mark.slow
def test_a_large_row_group_is_not_read_whole(tmp_path: Path) -> None:
    schema = pa.schema([("images", pa.list_(pa.struct([("bytes", pa.binary())])))])
    images = [[{"bytes": n.to_bytes(4, "big") * 50_000}] for n in range(2048)]  # 400 MB
    options = {"compression": "none", "use_dictionary": False, "write_batch_size": 16}  # one row group, small pages
    path = written(tmp_path / "a.parquet", pa.Table.from_pylist([{"images": i} for i in images], schema), **options)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(path)], capture_output=True, text=True, cwd=ROOT, timeout=250
    )
    assert done.returncode == 0, done.stderr
    rows, peak = map(int, done.stdout.split())
    assert rows == 64 and peak < 250_000, f"{peak:,} kB for a row group of 400 MB"  # 600 MB where it is read whole
