"""The ledger can't lose a row, and a folder that differs from its manifest is refused with the file's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.manifest import MANIFEST, Counts, FileEntry, Manifest, ManifestError, describe, read, unedited, verify

REASONS = st.dictionaries(st.sampled_from(["duplicate", "too_long", "image_missing"]), st.integers(0, 50), max_size=3)


@st.composite
def ledgers(draw: Callable[[Any], Any]) -> Counts:
    kept, dropped, rejected = draw(st.integers(0, 50)), draw(REASONS), draw(REASONS)
    return Counts(kept + sum(dropped.values()) + sum(rejected.values()), kept, dropped, rejected)


@given(ledgers(), st.integers(-5, 5).filter(bool))
def test_counts_that_lose_or_invent_rows_cannot_be_built(counts: Counts, error: int) -> None:
    with pytest.raises(ManifestError, match="rows are lost"):
        Counts(counts.rows_in + error, counts.kept, counts.dropped, counts.rejected)


@pytest.mark.parametrize("counts", [(0, 1, {"a": -1}, {}), (0, 1, {}, {"a": -1}), (0, -1, {"a": 1}, {})])
def test_negative_counts_cannot_hide_a_loss(counts: tuple[int, int, dict[str, int], dict[str, int]]) -> None:
    with pytest.raises(ManifestError, match="rows are lost"):
        Counts(*counts)


@given(ledgers(), ledgers(), ledgers())
def test_ledgers_add_up_in_any_grouping(a: Counts, b: Counts, c: Counts) -> None:
    assert (a + b) + c == a + (b + c)
    total = a + b
    assert total.rows_in == a.rows_in + b.rows_in
    assert all(total.dropped[key] == a.dropped.get(key, 0) + b.dropped.get(key, 0) for key in total.dropped)
    assert a + Counts() == Counts(a.rows_in, a.kept, a.dropped, a.rejected)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "part-00000.parquet").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "part-00001.parquet").write_bytes(b"")
    counts = Counts(5, 3, {"duplicate": 1}, {"image_missing": 1})
    files = (describe(tmp_path, "part-00000.parquet", 3), describe(tmp_path, "part-00001.parquet"))
    manifest = Manifest("dedupe", 1, "ab" * 32, {"match": {"radius": 4}}, {"02": "x"}, counts, {"日本": counts}, files)
    (tmp_path / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return tmp_path


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    edit(content)
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def test_what_was_written_is_what_is_read(folder: Path) -> None:
    manifest = verify(folder)
    assert manifest == read(folder)
    assert manifest.to_json() == (folder / MANIFEST).read_text(encoding="utf-8")
    assert manifest.by_source["日本"].dropped == {"duplicate": 1}
    assert manifest.files[0] == FileEntry("part-00000.parquet", 10240, manifest.files[0].sha256, 3)
    assert manifest.files[1].rows is None


def test_a_manifest_of_the_fewest_keys_is_read(folder: Path) -> None:
    """Rows only where a file has rows, facts only where there are some."""
    change(folder, lambda m: [entry.pop("rows") for entry in m["files"]] + [m.pop("facts")])
    manifest = verify(folder)
    assert [entry.rows for entry in manifest.files] == [None, None] and manifest.facts == {}
    assert (folder / "manifest.json").is_file()


def test_no_manifest_means_not_done(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a finished step"):
        read(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 100, -2])
def test_a_cut_manifest_is_refused(folder: Path, length: int) -> None:
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ManifestError, match="not a manifest"):
        read(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(stge="x"), "stge: unknown key; did you mean 'stage'"),
        (lambda m: m["counts"].update(lost=1), "counts.lost: unknown key"),
        (lambda m: m["counts"].update(kept=2), "rows are lost: 5 in, 4 kept"),
        (lambda m: m["by_source"]["日本"].update(kept=4), "by_source.日本: rows are lost"),
        (lambda m: m.pop("identity"), "identity: missing"),
        (lambda m: m["files"][0].update(size="10240"), r"files\[0\].size: got '10240'"),
        (lambda m: m["files"][0].update(size=True), r"files\[0\].size: got True"),
        (lambda m: m.update(files={}), "files: got {}"),
    ],
)
def test_an_edited_manifest_is_refused(folder: Path, edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    change(folder, edit)
    with pytest.raises(ManifestError, match=message):
        read(folder)


def test_a_manifest_that_is_not_utf8_or_not_a_mapping_is_refused(folder: Path) -> None:
    for content in (b"\xff\xfe{}", b"[]", b"null", b"3", b"[" * 100_000, b"9" * 5_000):
        (folder / MANIFEST).write_bytes(content)
        with pytest.raises(ManifestError, match="not a manifest"):
            read(folder)


def _missing(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(_missing, "missing"), (_cut, "10,239 bytes"), (_longer, "10,241 bytes"), (_flipped, "sha256")],
)
def test_verify_names_the_damaged_file(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder / "part-00000.parquet")
    read(folder)
    with pytest.raises(ManifestError, match=f"part-00000.parquet: .*{message}"):
        verify(folder)


def test_a_folder_in_a_files_place_is_missing(folder: Path) -> None:
    (folder / "part-00001.parquet").unlink()
    (folder / "part-00001.parquet").mkdir()
    with pytest.raises(ManifestError, match=r"part-00001\.parquet: missing"):
        verify(folder)


def test_sources_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ManifestError, match="don't add up"):
        Manifest("ingest", 1, "0" * 64, {}, {}, Counts(2, 2), {"a": Counts(1, 1)}, ())


@pytest.mark.parametrize("name", ["../outside", "a/../../b", "/etc/passwd"])
def test_a_manifest_cannot_name_a_file_outside_its_folder(name: str) -> None:
    with pytest.raises(ManifestError, match="leaves the step's folder"):
        Manifest("ingest", 1, "0" * 64, {}, {}, Counts(), {}, (FileEntry(name, 1, "0" * 64),))


@pytest.mark.parametrize("key", ["inputs", "benchmarks"])
def test_what_a_step_read_keeps_the_order_that_makes_its_identity(key: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"inputs": {}, "benchmarks": {}, key: {"b": "1", "c": "2", "a": "3"}}
    written = Manifest("ingest", 1, "x", {}, counts=Counts(), by_source={}, files=(), **given)
    (tmp_path / MANIFEST).write_text(written.to_json(), encoding="utf-8")
    assert list(getattr(read(tmp_path), key)) == ["b", "c", "a"]


def test_a_letter_that_was_changed_where_nothing_else_tells_it_is_found(folder: Path) -> None:
    unedited(folder, read(folder))
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    (folder / MANIFEST).write_text(text.replace('"02": "x"', '"03": "x"'), encoding="utf-8")
    with pytest.raises(ManifestError, match="was edited or damaged"):
        unedited(folder, read(folder))
