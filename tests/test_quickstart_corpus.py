"""The quickstart's corpus: the same every time, learnable in shape, and defective exactly where its truth says so.

The tests read the files as a stranger would, by their formats alone, and compare what they find with truth.json.
"""

import io
import json
import zipfile
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, UnidentifiedImageError

from pipeline.quickstart.corpus import SMALLEST, write_corpus
from pipeline.quickstart.defects import ALIKE, DEFECTS
from pipeline.quickstart.raw import DISTINCT, SPLITS, grey32, upright_rgb
from pipeline.quickstart.scenes import KINDS, draw_scene

SCALE = 0.06
Address = tuple[str, str, int]


@dataclass
class Read:
    """A row as found on disk: image bytes (None where a reference is dead), texts, and the raw record."""

    images: list[bytes | None]
    names: list[str]
    turns: list[tuple[str, str]]
    record: dict[str, Any]


def read_fine(folder: Path) -> dict[Address, Read]:
    rows = {}
    for path in sorted(folder.glob("*/*.parquet")):
        for number, record in enumerate(pq.read_table(path).to_pylist()):
            images = record["images"] or []
            turns = [(turn["user"], turn["assistant"]) for turn in record["texts"]]
            address = ("fine", str(path.relative_to(folder)), number)
            rows[address] = Read([i["bytes"] for i in images], [i["path"] for i in images], turns, record)
    return rows


def read_japanese(folder: Path) -> dict[Address, Read]:
    rows = {}
    for path in sorted(folder.glob("*.parquet")):
        for number, record in enumerate(pq.read_table(path).to_pylist()):
            images = [record["画像"]] if record["画像"] else []
            turns = [(record["質問"], record["回答"])]
            address = ("japanese", path.name, number)
            rows[address] = Read([i["bytes"] for i in images], [i["path"] for i in images], turns, record)
    return rows


def read_llava(folder: Path) -> dict[Address, Read]:
    rows = {}
    with zipfile.ZipFile(folder / "images.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for number, record in enumerate(json.loads((folder / "conversations.json").read_text("utf-8"))):
        names = record.get("image", [])
        names = [names] if isinstance(names, str) else names
        values = [turn["value"].replace("<image>", "").strip("\n") for turn in record["conversations"]]
        turns = list(zip(values[::2], values[1::2], strict=True))
        rows["llava", "conversations.json", number] = Read([files.get(n) for n in names], names, turns, record)
    return rows


def read_split(folder: Path) -> list[bytes]:
    questions = map(json.loads, (folder / "questions.jsonl").read_text("utf-8").splitlines())
    return [(folder / question["image"]).read_bytes() for question in questions]


@dataclass
class Corpus:
    folder: Path
    truth: dict[str, Any]
    rows: dict[Address, Read]
    benchmark: dict[str, list[bytes]]

    def planted(self, kind: str) -> list[tuple[Read, dict[str, Any]]]:
        return [(self.rows[address(d)], d) for d in self.truth["defects"] if d["kind"] == kind]

    def original(self, defect: dict[str, Any]) -> Read:
        return self.rows[address(defect["original"])]


def address(entry: dict[str, Any]) -> Address:
    return entry["source"], entry["file"], entry["row"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    truth = write_corpus(folder, seed=3, scale=SCALE)
    rows = read_fine(folder / "fine") | read_japanese(folder / "japanese") | read_llava(folder / "llava")
    return Corpus(folder, truth, rows, {name: read_split(folder / "benchmark" / name) for name in SPLITS})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def pixels(data: bytes) -> str:
    """A hash of what is seen: the same picture in another file format is the same."""
    image = upright_rgb(data)
    return sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def distance(one: bytes, two: bytes) -> int:
    return int(np.abs(grey32(one).astype(int) - grey32(two).astype(int)).max())


# ---- the whole


def test_the_same_seed_writes_the_same_bytes(corpus: Corpus, tmp_path: Path) -> None:
    write_corpus(tmp_path, seed=3, scale=SCALE)
    assert contents(tmp_path) == contents(corpus.folder)


def test_another_seed_writes_other_scenes(corpus: Corpus, tmp_path: Path) -> None:
    write_corpus(tmp_path, seed=4, scale=SCALE)
    mine, other = contents(corpus.folder), contents(tmp_path)
    assert [name for name in mine if "images/" not in name and mine[name] == other[name]] == []


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_a_scale_that_cannot_be_had_is_refused(scale: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scale is"):
        write_corpus(tmp_path, scale=scale)


def test_the_smallest_corpus_has_every_defect_twice(tmp_path: Path) -> None:
    truth = write_corpus(tmp_path, scale=SMALLEST)
    assert set(Counter(d["kind"] for d in truth["defects"]).values()) == {2}


def test_truth_is_what_was_returned(corpus: Corpus) -> None:
    assert json.loads((corpus.folder / "truth.json").read_text("utf-8")) == corpus.truth


def test_every_row_is_kept_dropped_or_rejected(corpus: Corpus) -> None:
    truth = corpus.truth
    assert Counter(source for source, _, _ in corpus.rows) == truth["rows_in"]
    rejected = sum(sum(counts.values()) for counts in truth["rejected"].values())
    dropped = sum(sum(counts.values()) for counts in truth["dropped"].values())
    assert sum(truth["rows_in"].values()) == truth["kept"] + dropped + rejected
    assert rejected + dropped == sum(d["stage"] is not None for d in truth["defects"])
    assert truth["held_out"] == {name: len(images) for name, images in corpus.benchmark.items()}


def test_a_row_has_at_most_one_defect_and_every_kind_occurs(corpus: Corpus) -> None:
    assert len({address(d) for d in corpus.truth["defects"]}) == len(corpus.truth["defects"])
    counts = Counter(d["kind"] for d in corpus.truth["defects"])
    assert counts.keys() == {defect.kind for defect in DEFECTS}
    assert min(counts.values()) >= 2


def test_pictures_are_distinct_unless_planted_to_be_alike(corpus: Corpus) -> None:
    """Copies aside, whatever decodes to a picture differs clearly from everything else that does."""
    copies = {address(d) for d in corpus.truth["defects"] if d["original"] or d["reason"] == "image_unreadable"}
    broken = {address(d) for d in corpus.truth["defects"] if d["reason"] in ("image_truncated", "image_missing")}
    files = [data for at, row in corpus.rows.items() if at not in copies | broken for data in row.images if data]
    files += chain.from_iterable(corpus.benchmark.values())
    greys = np.stack([grey32(data) for data in files]).astype(np.int16)
    for number, grey in enumerate(greys[:-1]):
        assert np.abs(greys[number + 1 :] - grey).max(axis=1).min() > DISTINCT


def test_no_picture_of_a_split_is_in_the_sources_or_in_the_other_split_unless_planted(corpus: Corpus) -> None:
    leaks = {address(defect) for _, defect in corpus.planted("benchmark_image")}
    broken = {address(d) for d in corpus.truth["defects"] if d["stage"] == "ingest"}
    rows = [row for at, row in corpus.rows.items() if at not in leaks | broken]
    sources = {pixels(data) for row in rows for data in row.images if data is not None}
    validation, test = ([pixels(data) for data in corpus.benchmark[name]] for name in SPLITS)
    assert len(set(validation)) == len(validation) == len(set(test)) == len(test) > 10
    assert not sources & set(validation) and not sources & set(test) and not set(validation) & set(test)
    assert len(sources) > 200
    leaked = {pixels(data) for data in chain.from_iterable(corpus.rows[at].images for at in leaks) if data}
    assert leaked & set(validation + test), "the leaks that are whole copies"


def test_clean_texts_without_image_are_distinct(corpus: Corpus) -> None:
    copies = {address(d) for d in corpus.truth["defects"] if d["original"]}
    texts = [tuple(row.turns) for at, row in corpus.rows.items() if at not in copies and not row.images and row.turns]
    assert len(texts) > 5
    assert len(set(texts)) == len(texts)


# ---- rows that must be rejected


def test_truncated_images_open_but_do_not_load(corpus: Corpus) -> None:
    for row, _ in corpus.planted("image_truncated"):
        image = Image.open(io.BytesIO(row.images[0] or b""))
        with pytest.raises(OSError):
            image.load()


def test_unreadable_images_are_no_images(corpus: Corpus) -> None:
    for row, _ in corpus.planted("image_unreadable"):
        assert row.images[0] is not None
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(row.images[0]))


def test_missing_images_are_named_but_not_there(corpus: Corpus) -> None:
    for row, _ in corpus.planted("image_missing"):
        assert row.images == [None]
        assert row.names[0]


def test_placeholders_match_the_images_except_where_planted(corpus: Corpus) -> None:
    planted = {address(d) for _, d in corpus.planted("placeholder_mismatch")}
    for at, row in corpus.rows.items():
        if at[0] == "llava" and row.turns:
            marks = sum(turn["value"].count("<image>") for turn in row.record["conversations"])
            assert (marks != len(row.images)) == (at in planted)
        else:
            assert "<image>" not in str(row.turns)


def test_rows_without_a_conversation_are_the_planted_ones(corpus: Corpus) -> None:
    planted = {address(d) for _, d in corpus.planted("no_conversation")}
    assert {at for at, row in corpus.rows.items() if not row.turns} == planted


# ---- rows that are odd and must be kept


def test_mislabelled_images_are_not_the_format_of_their_name(corpus: Corpus) -> None:
    for row, _ in corpus.planted("mislabelled"):
        assert row.names[0].endswith(".jpg")
        assert Image.open(io.BytesIO(row.images[0] or b"")).format in ("GIF", "PNG", "WEBP")


@pytest.mark.parametrize(
    ("kind", "form", "mode"), [("cmyk", "JPEG", "CMYK"), ("palette_transparent", "PNG", "P"), ("grey16", "PNG", "I;16")]
)
def test_odd_modes_are_what_they_say(corpus: Corpus, kind: str, form: str, mode: str) -> None:
    for row, _ in corpus.planted(kind):
        image = Image.open(io.BytesIO(row.images[0] or b""))
        assert (image.format, image.mode) == (form, mode)
        assert ("transparency" in image.info) == (kind == "palette_transparent")
        assert np.ptp(np.asarray(upright_rgb(row.images[0] or b""))) > DISTINCT, "a picture, not a blank page"


def test_grey_pictures_are_not_asked_for_colours(corpus: Corpus) -> None:
    for row, _ in corpus.planted("grey16"):
        assert len(row.turns) == 1
        assert "colour" not in row.turns[0][0] and "色" not in row.turns[0][0]


def test_rotated_images_are_upright_once_their_tag_is_obeyed(corpus: Corpus) -> None:
    for row, _ in corpus.planted("exif_rotated"):
        image = Image.open(io.BytesIO(row.images[0] or b""))
        assert image.getexif()[0x0112] == 6
        lying, upright = np.asarray(image.convert("RGB")), np.asarray(upright_rgb(row.images[0] or b""))
        np.testing.assert_array_equal(np.rot90(lying, -1), upright)


def test_the_same_image_with_another_question_is_no_duplicate(corpus: Corpus) -> None:
    for row, defect in corpus.planted("same_image_other_question"):
        original = corpus.original(defect)
        assert row.images == original.images
        assert not set(row.turns) & set(original.turns)


# ---- rows that must be dropped


def test_duplicates_repeat_bytes_and_text(corpus: Corpus) -> None:
    found = corpus.planted("duplicate")
    for row, defect in found:
        original = corpus.original(defect)
        assert (row.images, row.turns) == (original.images, original.turns)
    assert {len(row.images) for row, _ in found} == {0, 1}


def test_near_duplicates_have_other_bytes_that_look_the_same(corpus: Corpus) -> None:
    for row, defect in corpus.planted("near_duplicate"):
        one, two = row.images[0] or b"", corpus.original(defect).images[0] or b""
        assert one != two
        assert distance(one, two) <= ALIKE
        assert row.turns == corpus.original(defect).turns


def test_leaks_show_a_benchmark_picture_under_another_question(corpus: Corpus) -> None:
    for row, defect in corpus.planted("benchmark_image"):
        split, number = Path(defect["original"]["file"]).parent.name, defect["original"]["row"]
        lines = (corpus.folder / "benchmark" / split / "questions.jsonl").read_text("utf-8").splitlines()
        assert distance(row.images[0] or b"", corpus.benchmark[split][number]) <= ALIKE
        assert row.turns
        assert json.loads(lines[number])["question"] not in [question for question, _ in row.turns]


def test_foreign_rows_are_long_and_neither_english_nor_japanese(corpus: Corpus) -> None:
    for row, _ in corpus.planted("wrong_language"):
        text = " ".join(row.turns[0])
        assert len(text) >= 60
        assert any(ord(letter) > 127 for letter in text)
        assert not any("\u3040" <= letter <= "\u30ff" for letter in text)


def test_empty_answers_are_the_planted_ones(corpus: Corpus) -> None:
    planted = {address(d) for _, d in corpus.planted("empty_answer")}
    rows = corpus.rows.items()
    assert {at for at, row in rows if row.turns and any(not answer.strip() for _, answer in row.turns)} == planted
    assert all(not answer.strip() for at in planted for _, answer in corpus.rows[at].turns)


def test_only_planted_rows_are_rated_low(corpus: Corpus) -> None:
    planted = {address(d) for _, d in corpus.planted("low_rating")}
    names = ("relevance", "visual_dependency", "image_correspondence", "formatting")
    for at, row in corpus.rows.items():
        if at[0] != "fine" or not row.turns:
            continue
        minima = {name: row.record[f"{name}_min"] for name in names if row.record[f"{name}_min"] is not None}
        assert all(value == min(row.record[f"{name}_ratings"]) for name, value in minima.items())
        assert (minima["relevance"] == 1) == (at in planted)
        assert all(value >= 3 for name, value in minima.items() if name != "relevance" or at not in planted)


# ---- shapes of the sources and of the scenes


def test_sources_have_the_quirks_of_their_models(corpus: Corpus) -> None:
    shapes, charts = (
        pq.read_schema(corpus.folder / "fine" / name)
        for name in ("shapes/train-00000-of-00002.parquet", "charts/train-00000-of-00001.parquet")
    )
    assert shapes.names != charts.names and sorted(shapes.names) == sorted(charts.names)
    assert [field.name for field in charts.field("texts").type.value_type] == ["assistant", "user"]
    llava = [row.record for at, row in corpus.rows.items() if at[0] == "llava"]
    assert {type(record["id"]) for record in llava} == {int, str}
    assert {type(record.get("image")) for record in llava} == {str, list, type(None)}
    assert any("model" in record for record in llava)
    ends = [record["conversations"][0]["value"].endswith("<image>") for record in llava if record["conversations"]]
    assert {True, False} == set(ends)


def test_parquet_files_load_with_datasets(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    files = {
        "fine": "fine/shapes/*.parquet",
        "charts": "fine/charts/*.parquet",
        "japanese": "japanese/*.parquet",
    }
    for name, pattern in files.items():
        paths = [str(path) for path in sorted(corpus.folder.glob(pattern))]
        loaded = datasets.load_dataset("parquet", data_files=paths, split="train", cache_dir=str(tmp_path / name))
        assert len(loaded) == sum(pq.read_metadata(path).num_rows for path in paths)
        assert loaded[0]


def test_questions_are_sentences_and_answers_are_short(corpus: Corpus) -> None:
    foreign = {address(d) for _, d in corpus.planted("wrong_language")}
    for at, row in corpus.rows.items():
        for question, answer in row.turns if at not in foreign else []:
            kana = any("\u3040" <= letter <= "\u30ff" for letter in question)
            assert (len(question) >= 10) if kana else (len(question.split()) >= 5)
            assert len(answer.split()) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_depend_on_their_key_alone(kind: str) -> None:
    one, same, other = draw_scene(kind, "a"), draw_scene(kind, "a"), draw_scene(kind, "b")
    assert one.image.tobytes() == same.image.tobytes() and one.turns == same.turns
    assert one.image.tobytes() != other.image.tobytes()
    assert len(one.turns["en"]) == len(one.turns["ja"]) >= 2


@pytest.mark.parametrize("number", range(12))
def test_the_tallest_bar_has_the_colour_and_the_height_its_answer_claims(number: int) -> None:
    """Judge the chart by its pixels: the tallest column of ink lies where the answer says, by a clear margin."""
    scene = draw_scene("chart", f"bars/{number}")
    pixels = np.asarray(scene.image.convert("RGB")).astype(int)
    ink = np.abs(pixels - pixels[1, 1]).max(axis=2) > 60
    width = scene.image.width
    heights = [ink[:, width * third // 3 : width * (third + 1) // 3].sum(axis=0).max() for third in range(3)]
    order = np.argsort(heights)
    answers = {turn.topic: turn.answer for turn in scene.turns["en"]}
    assert answers["tallest"] == ("left", "middle", "right")[order[2]]
    assert heights[order[2]] - heights[order[1]] >= 0.18 * scene.image.height
