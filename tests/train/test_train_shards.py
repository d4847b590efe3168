"""Shards are read back exactly as they were written, or refused by name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_shards import SCHEME, TOKENS, png, row, talks, write_shards

from schemas import shard_map
from schemas.manifest import ManifestError
from schemas.strict import RecipeError
from stages.chat import ChatFormat
from train.data.shards import Shards


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(shards, tmp_path / "07-pretokenise-abcd1234"))


def test_every_sample_is_read_back_as_written(shards):
    opened = Shards(shards)
    chat = ChatFormat.load(opened.tokenizer_folder, TOKENS)
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
