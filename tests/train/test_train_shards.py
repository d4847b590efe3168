"""Shards are read back exactly as they were written, or refused by name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_shards import SCHEME, TOKENS, png, row, talks, write_shards

from schemas import shard_map
from schemas.manifest import ManifestError, describe
from schemas.shard import INDEX
from schemas.strict import RecipeError
from stages.chat import ChatFormat
from train.data.shards import Shards


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(shards, tmp_path / "07-pretokenise-abcd1234"))


def test_every_sample_is_read_back_as_written(shards):
    opened = Shards(shards)
    chat = ChatFormat.load(opened.folder / "tokenizer", TOKENS)
    for number, talk in enumerate(talks(len(opened))):
        wanted, got = row(number, talk, chat), opened.sample(number)
        assert got.sample_id == wanted["sample_id"]
        assert got.input_ids.tolist() == wanted["input_ids"]
        assert [tuple(span) for span in got.target_spans.tolist()] == wanted["target_spans"]
        assert got.images == tuple(png(*picture) for picture in talk.pictures)
        spans = [(tile["rows"], tile["cols"], tile["start"], tile["num_tokens"]) for tile in wanted["tiles"]]
        assert [(s.grid.rows, s.grid.cols, s.start, s.num_tokens) for s in got.image_spans] == spans


def test_lengths_and_facts_are_those_of_the_files(shards):
    opened = Shards(shards)
    samples = [opened.sample(number) for number in range(len(opened))]
    assert opened.num_tokens.tolist() == [len(sample.input_ids) for sample in samples]
    assert opened.num_tiles.tolist() == [sum(s.grid.num_tiles for s in sample.image_spans) for sample in samples]
    assert opened.facts.scheme == SCHEME
    assert np.concatenate([sample.input_ids for sample in samples]).max() < opened.facts.vocab_size


def test_an_output_folder_with_one_shard_folder_stands_for_it(copy):
    assert Shards(copy.parent).folder == copy


def test_an_output_folder_with_two_shard_folders_is_ambiguous(copy):
    shutil.copytree(copy, copy.parent / "07-pretokenise-ffff0000")
    with pytest.raises(RecipeError, match=r"2 shard folders \(07-pretokenise-abcd1234, 07-pretokenise-ffff0000\)"):
        Shards(copy.parent)


def test_a_folder_without_shards_says_what_to_run(tmp_path):
    with pytest.raises(RecipeError, match="holds no finished shards; run `python -m pipeline run` first"):
        Shards(tmp_path)


def flip(path: Path) -> None:
    """One bit in the middle, size and time as before."""
    data, status = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("name", ["index.parquet", "tokenizer/tokenizer.json"])
def test_a_flipped_bit_in_what_is_read_at_once_is_refused_at_once(copy, name):
    flip(copy / name)
    with pytest.raises(ManifestError, match=rf"{name}: its bytes differ from the manifest's sha256"):
        Shards(copy)


def test_a_flipped_bit_in_a_map_is_refused_when_its_shard_is_used(copy):
    flip(copy / "map-00001.json")
    opened = Shards(copy)
    assert opened.sample(24).sample_id == "tests/24"
    with pytest.raises(ManifestError, match=r"map-00001.json: its bytes differ from the manifest's sha256"):
        opened.sample(25)


def test_opening_reads_nothing_of_the_shards(copy):
    """A damaged shard costs nobody anything who does not read it; its other batches stay readable."""
    path = copy / "shard-00002.arrow"
    (batch, other, *_) = shard_map.from_json((copy / "map-00002.json").read_bytes()).batches
    data = bytearray(path.read_bytes())
    data[batch.start + 20] ^= 1
    path.write_bytes(data)
    opened = Shards(copy)
    assert opened.sample(50 + batch.rows).sample_id == f"tests/{50 + batch.rows}" and other.rows
    with pytest.raises(ManifestError, match=r"shard-00002.arrow: batch 0 \(rows 0 to 3\): its bytes differ"):
        opened.sample(50)


def test_an_image_is_proven_each_time_it_is_read(copy):
    """A batch is proven once; the bytes of its images are read from the disk again in every epoch."""
    opened = Shards(copy)
    opened.sample(0)
    path = copy / "shard-00000.arrow"
    batch = shard_map.from_json((copy / "map-00000.json").read_bytes()).batches[0]
    with path.open("r+b") as stream:
        stream.seek(batch.images)
        stream.write(b"\0")
    with pytest.raises(ManifestError, match=r"batch 0, row 0 \(tests/0\): the bytes of image 0 differ from its sha256"):
        opened.sample(0)


def test_a_file_cut_after_opening_is_refused(copy):
    opened = Shards(copy)
    path = copy / "shard-00001.arrow"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ManifestError, match=r"shard-00001.arrow: .* bytes, the manifest promises"):
        opened.sample(30)
    path.unlink()
    with pytest.raises(ManifestError, match=r"shard-00001.arrow: can't be read"):
        opened.sample(30)


def test_no_file_stays_open(copy):
    """A hundred thousand shards would be more files than a process may have open."""
    opened = Shards(copy)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(0, 60, 5):
        opened.sample(number)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("name", ["shard-00001.arrow", "index.parquet", "tokenizer/tokenizer.json"])
def test_a_cut_file_is_refused_by_name(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ManifestError, match=rf"{name}: .* bytes, the manifest promises"):
        Shards(copy)


def test_the_manifest_of_another_stage_is_refused(copy):
    path = copy / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "stage": "ingest", "facts": {}}))
    with pytest.raises(ManifestError, match="the manifest is of ingest; wanted the folder of a pretokenise step"):
        Shards(copy)


def test_the_hundred_thousandth_shard_is_read_as_the_index_says(tmp_path):
    """`shard-100000` comes before `shard-99999` as text."""
    opened = Shards(write_shards(tmp_path, talks(30), per_shard=10, first_shard=99_999))
    assert [opened.sample(number).sample_id for number in range(30)] == [f"tests/{number}" for number in range(30)]
    assert {path.name for path in tmp_path.glob("*.arrow")} == {
        "shard-99999.arrow",
        "shard-100000.arrow",
        "shard-100001.arrow",
    }


# ---- shards by another hand: every hash is right


def forge(folder: Path, **changes) -> None:
    """The manifest says what the files are, and `changes`."""
    known = json.loads((folder / "manifest.json").read_text())
    known["files"] = [vars(describe(folder, e["name"])) for e in known["files"] if (folder / e["name"]).is_file()]
    (folder / "manifest.json").write_text(json.dumps(known | changes))


def change_index(folder: Path, change, schema: pa.Schema = INDEX) -> None:
    table = pq.read_table(folder / "index.parquet")
    rows = table.to_pylist()
    change(rows)
    schema = schema.with_metadata(table.schema.metadata)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "index.parquet")


INDEXES = {
    "a row too few": (lambda rows: rows.pop(), "59 rows, the manifest says 60"),
    "a row twice": (lambda rows: rows.__setitem__(7, rows[6]), "its rows don't follow each other"),
    "another order": (lambda rows: rows.reverse(), "its rows don't follow each other"),
    "not from the beginning": (
        lambda rows: [row.update(row=row["row"] + 1) for row in rows],
        "don't follow each other",
    ),
    "no tokens": (lambda rows: rows[3].update(num_tokens=0), "counts that no sample has"),
    "fewer than no tiles": (lambda rows: rows[3].update(num_tiles=-1), "counts that no sample has"),
    "no count": (lambda rows: rows[3].update(num_tiles=None), "rows without num_tiles"),
}


@pytest.mark.parametrize("case", INDEXES)
def test_an_index_that_makes_no_sense_is_refused_at_once(copy, case):
    change, message = INDEXES[case]
    change_index(copy, change)
    forge(copy)
    with pytest.raises(ManifestError, match=rf"index.parquet: .*{message}"):
        Shards(copy)


def test_a_sample_of_other_lengths_than_the_index_says_is_refused(copy):
    change_index(copy, lambda rows: rows[30].update(num_tokens=7))
    forge(copy)
    with pytest.raises(ManifestError, match=r"shard-00001.arrow row 5 \(tests/30\): \d+ tokens .* the index says 7"):
        Shards(copy).sample(30)


def test_a_shard_of_other_rows_than_the_index_says_is_refused(copy):
    def move(rows):
        rows[49].update(shard=2, row=0)
        for entry in rows[50:]:
            entry.update(row=entry["row"] + 1)

    change_index(copy, move)
    forge(copy)
    with pytest.raises(ManifestError, match=r"shard-00002.arrow: 10 rows, the index has 11 of it"):
        Shards(copy).sample(55)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["index.parquet"], "index.parquet"),
        (["map-00001.json"], "map of every shard"),
        (["tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "tokenizer/chat_template.jinja"], "tokenizer"),
    ],
)
def test_a_folder_that_lacks_a_kind_of_files_is_refused(copy, names, message):
    for name in names:
        (copy / name).unlink()
    forge(copy)
    with pytest.raises(ManifestError, match=f"its manifest has no {message}"):
        Shards(copy)


def test_a_shard_that_the_index_names_and_nobody_has_is_refused(copy):
    (copy / "shard-00001.arrow").unlink()
    forge(copy)
    with pytest.raises(ManifestError, match=r"has no shard-00001.arrow and map-00001.json"):
        Shards(copy).sample(30)


@pytest.mark.parametrize("name", ["index.parquet", "map-00000.json"])
@pytest.mark.parametrize("data", [b"", b"PAR1", b"{}", b"[" * 100_000, b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_index_and_no_map_is_refused(copy, name, data):
    (copy / name).write_bytes(data)
    forge(copy)
    with pytest.raises(ManifestError, match=name):
        Shards(copy).sample(0)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"vocab_size": "300"}, r"facts\.vocab_size: got '300'"),
        ({"vocab_size": 10}, r"the image token \d+ is none of 10 tokens"),
        ({"image_token_id": -1}, "the image token -1 is none of"),
        ({"tokens": 5}, r"facts\.tokens: got 5"),
        ({"image_token_id": 1}, "the image token is 1"),
        ({"tiles": {"scheme": "internvl", "tile": 15}}, "write them again"),
        ({"tiles": []}, "facts.tiles"),
    ],
)
def test_facts_that_make_no_sense_are_refused(copy, facts, message):
    known = json.loads((copy / "manifest.json").read_text())["facts"]
    forge(copy, facts=known | facts)
    with pytest.raises(ManifestError, match=message):
        Shards(copy)
