"""WebDataset tars: every sample once, what the format cannot express is a reject, damage is an error with its place."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from stages.ingest import IngestParams, ingest
from stages.sources.archives.image_files import ImageFiles
from stages.sources.declaration import Source
from stages.sources.records import tars
from stages.sources.records.slices import LIMITS, read, slices
from stages.sources.records.streams import DataError, Limits
from stages.sources.shapes.draft import BadRow
from tests.stages.pictures import encoded, joined, photo

PNG = encoded(photo(1, 20, 10))
Member = tuple[str, bytes | tarfile.TarInfo]


def tar(path: Path, members: Iterable[Member], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def records(path: Path, rows: int = 2, limits: Limits = LIMITS) -> list[Any]:
    """Every record through slices; a BadRow as its detail."""
    found = [pair for part in slices(path, path.name, rows) for pair in read(path, part, limits)]
    assert [row for row, _ in found] == list(range(len(found)))
    return [record.detail if isinstance(record, BadRow) else record for _, record in found]


def ingested(path: Path, **options: Any) -> Any:
    source = Source("webdataset", ("*.tar",), **options)
    pairs = [pair for part in slices(path, path.name, 3) for pair in read(path, part)]
    return joined(ingest(pairs, "src", path.name, source, ImageFiles(None), IngestParams()))


def of_type(name: str, kind: bytes, link: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return name, info


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_samples_are_consecutive_members_of_one_key(tmp_path: Path, format: int, rows: int) -> None:
    long = "folder" * 15 + "/" + "é" * 30
    members: list[Member] = [("x/1.jpg", b"a"), ("x/1.JSON", b"b"), ("y/1.jpg", b"c" * 600), (f"{long}.txt", b"d")]
    members += [("x/2.img0.jpg", b""), ("x/2.img1.jpg", b"e" * 512)]
    assert records(tar(tmp_path / "a.tar", members, format=format), rows) == [
        {"__key__": "x/1", "jpg": b"a", "json": b"b"},
        {"__key__": "y/1", "jpg": b"c" * 600},
        {"__key__": long, "txt": b"d"},
        {"__key__": "x/2", "img0.jpg": b"", "img1.jpg": b"e" * 512},
    ]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst"])
def test_compressed_tars_hold_the_same_samples(tmp_path: Path, suffix: str) -> None:
    import pyarrow as pa

    plain = tar(tmp_path / "a.tar", [(f"{n}.txt", bytes([n]) * n * 40) for n in range(50)])
    path = tmp_path / f"a{suffix}"
    data = plain.read_bytes()
    path.write_bytes(gzip.compress(data) if suffix == ".tar.gz" else pa.compress(data, "zstd", asbytes=True))
    assert records(path, 7) == records(plain, 7) and len(records(path)) == 50


def test_folders_and_mac_files_belong_to_no_sample(tmp_path: Path) -> None:
    members = [of_type("x", tarfile.DIRTYPE), ("x/1.jpg", b"a"), ("x/._1.jpg", b"junk"), ("x/1.txt", b"b")]
    assert records(tar(tmp_path / "a.tar", members)) == [{"__key__": "x/1", "jpg": b"a", "txt": b"b"}]


def test_what_the_format_cannot_express_costs_its_sample(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("5.jpg")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 0
    members = [
        ("1.txt", b"good"),
        ("2.jpg", b"a"),
        ("2.JPG", b"b"),
        ("2.txt", b"c"),
        of_type("3.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ("3.txt", b"d"),
        of_type("4.jpg", tarfile.CHRTYPE),
        ("5.jpg", sparse),
        of_type("6.jpg", tarfile.LNKTYPE, "1.txt"),
        ("7.txt", b"good"),
    ]
    found = records(tar(tmp_path / "a.tar", members, format=tarfile.GNU_FORMAT), 3)
    assert [isinstance(record, dict) for record in found] == [True, False, False, False, False, False, True]
    assert "'2.JPG' stands twice" in found[1]
    assert all("is a link, a device or a sparse file" in detail for detail in found[2:6])


def test_a_sample_too_large_is_not_read(tmp_path: Path) -> None:
    limits = Limits(text=200, row=1000)
    members = [("1.jpg", bytes(900)), ("1.txt", bytes(101)), ("2.txt", bytes(201)), ("3.txt", b"x")]
    found = records(tar(tmp_path / "a.tar", members), limits=limits)
    assert found[:2] == ["members of 1,001 bytes in all, at most 1,000", "'2.txt' of 201 bytes, at most 200"]
    assert found[2]["txt"] == b"x"


def test_a_tar_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", [(f"{n}.txt", b"x" * 700) for n in range(4)]).read_bytes()
    for size in [0, 1, 511, 512, 600, 1535, 1536, 2048, 3000, 4 * 1536 - 1, 4 * 1536]:
        (tmp_path / "b.tar").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"b\.tar: .*fetch it again"):
            slices(tmp_path / "b.tar", "b.tar", 2)


@pytest.mark.parametrize("at", [0, 1536, 3072])
def test_a_damaged_header_is_refused_and_never_the_end(tmp_path: Path, at: int) -> None:
    path = tar(tmp_path / "a.tar", [(f"{n}.txt", b"x" * 700) for n in range(4)])
    data = bytearray(path.read_bytes())
    data[at + 150] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.tar"):
        slices(path, "a.tar", 2)


def test_two_tars_end_to_end_are_refused(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", [("1.txt", b"x")]).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole * 2)
    with pytest.raises(DataError, match="another archive"):
        slices(tmp_path / "b.tar", "b.tar", 2)


def test_hostile_headers_are_refused_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "_MAX_HEADER", 4096)
    path = tar(tmp_path / "a.tar", [("1.txt", b"x"), ("n" * 9000 + ".txt", b"y")], format=tarfile.GNU_FORMAT)
    with pytest.raises(DataError, match="an extended header of 9,"):
        slices(path, "a.tar", 2)
    info = tarfile.TarInfo("1.txt")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 12  # base 256: a negative size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(DataError, match=r"a\.tar"):
        slices(path, "a.tar", 2)


# ---- what becomes of the samples


TALK = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A cat."}]
BLOCKS = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A cat."}]


def test_every_shape_inside_a_sample(tmp_path: Path) -> None:
    two = [{"from": "human", "value": "<image> or <image>"}, TALK[1]]
    fields: dict[str, Any] = {"caption": "ignored: txt comes first", "language": "en", "licence": "cc0"}
    members = [
        ("talk.png", PNG),
        ("talk.json", json.dumps({"conversations": TALK, "image": "elsewhere.jpg"}).encode()),
        ("list.png", PNG),
        ("list.json", json.dumps(BLOCKS).encode()),
        ("msg.png", PNG),
        ("msg.json", json.dumps({"messages": BLOCKS}).encode()),
        ("cap.png", PNG),
        ("cap.txt", b"A dog.\n"),
        ("cap.json", json.dumps(fields).encode()),
        ("capj.png", PNG),
        ("capj.json", json.dumps({"caption": "A cow."}).encode()),
        ("many.img10.png", encoded(photo(2, 8, 8))),
        ("many.img2.png", encoded(photo(3, 9, 9))),
        ("many.json", json.dumps({"conversations": two}).encode()),
        ("text.json", json.dumps({"conversations": [{"from": "human", "value": "Hi"}, TALK[1]]}).encode()),
        ("2433684022797.0.png", PNG),
        ("2433684022797.0.txt", b"Dots in the name."),
    ]
    done = ingested(tar(tmp_path / "a.tar", members), prompt="Say.")
    assert done.counts.kept == done.counts.rows_in == 8
    rows = done.samples.to_pylist()
    said = ["".join(b["text"] or "[i]" for m in row["messages"] for b in m["content"]) for row in rows]
    assert said == [
        "[i]What?A cat.",
        "[i]What?A cat.",
        "[i]What?A cat.",
        "[i]Say.A dog.",
        "[i]Say.A cow.",
        "[i] or [i]A cat.",
        "HiA cat.",
        "[i]Say.Dots in the name.",
    ]
    assert [info["width"] for info in rows[5]["image_info"]] == [9, 8]
    assert rows[0]["images"][0]["path"] == "talk.png"
    assert (rows[3]["licence"], rows[3]["declared_language"]) == ("cc0", "en")


def test_samples_that_are_none_are_rejects(tmp_path: Path) -> None:
    members = [
        ("a.png", PNG),  # two halves of two samples, not side by side
        ("b.png", PNG),
        ("a.json", json.dumps({"caption": "a"}).encode()),
        ("b.json", json.dumps({"caption": "b"}).encode()),
        ("1.0.png", PNG),  # two samples merged by the dots in their names
        ("1.0.json", b"{}"),
        ("1.1.png", PNG),
        ("1.1.json", b"{}"),
        ("c.json", b"{"),
        ("d.json", b"5"),
        ("e.txt", b"\xff"),
        ("f.pkl", b"cos\nsystem\n"),
        ("README", b"no sample"),
    ]
    done = ingested(tar(tmp_path / "a.tar", members))
    assert done.counts.rows_in == 10 and done.counts.kept == 0
    found = [(row["reason"], row["detail"]) for row in done.rejects.to_pylist()]
    assert [reason for reason, _ in found] == [
        "no_conversation",
        "no_conversation",
        "malformed_record",
        "malformed_record",
        "malformed_record",
        "malformed_record",
        "malformed_record",
        "malformed_record",
        "no_conversation",
        "no_conversation",
    ]
    assert "whose names have dots" in found[4][1]


def test_a_column_of_another_name_is_read_from_the_json(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("1.png", PNG), ("1.json", json.dumps({"alt": "A hen."}).encode())])
    done = ingested(path, columns={"caption": "alt"})
    assert done.samples["messages"].to_pylist()[0][1]["content"][0]["text"] == "A hen."


def packed(path: Path, fields: dict[str, Any], pictures: int) -> Any:
    members = [(f"ps_1.img{n:03}.png", encoded(photo(n, 10 + n, 10))) for n in range(pictures)]
    return ingested(tar(path / "a.tar", [*members, ("ps_1.json", json.dumps(fields).encode())]), prompt="Say.")


def test_packed_captions_are_one_conversation(tmp_path: Path) -> None:
    """LLaVA-OneVision-1.5: parallel lists, for pre-training one picture each, for tuning lists of any length."""
    flat = {"images": ["img000.jpg", "img001.jpg"], "prompts": ["What?", ""], "captions": ["A cat.", "A dog."]}
    (row,) = packed(tmp_path, flat, 2).samples.to_pylist()
    said = ["".join(block["text"] or "[i]" for block in message["content"]) for message in row["messages"]]
    assert said == ["[i]What?", "A cat.", "[i]Say.", "A dog."]
    assert [info["width"] for info in row["image_info"]] == [10, 11]
    nested = {
        "images": [["img000.jpg", "img001.jpg"], []],
        "prompt": [["Same?"], ["Hi", "Bye"]],
        "captions": [["No."], ["Hello.", "Goodbye."]],
    }
    (row,) = packed(tmp_path, nested, 2).samples.to_pylist()
    said = ["".join(block["text"] or "[i]" for block in message["content"]) for message in row["messages"]]
    assert said == ["[i][i]Same?", "No.", "Hi", "Hello.", "Bye", "Goodbye."]
    (row,) = packed(tmp_path, {"captions": ["A cat."]}, 1).samples.to_pylist()
    assert row["messages"][0]["content"][1]["text"] == "Say."


@pytest.mark.parametrize(
    ("fields", "pictures", "reason"),
    [
        ({"captions": ["a", "b"]}, 1, "placeholder_mismatch"),
        ({"captions": ["a"]}, 2, "placeholder_mismatch"),
        ({"captions": ["a", "b"], "prompts": ["?"]}, 2, "malformed_record"),
        ({"captions": [["a", "b"]], "prompts": [["?"]]}, 1, "malformed_record"),
        ({"captions": "a", "prompts": "?"}, 1, "malformed_record"),
        ({"captions": [5]}, 1, "malformed_record"),
        ({"captions": []}, 0, "no_conversation"),
    ],
)
def test_packed_captions_that_do_not_match(tmp_path: Path, fields: dict[str, Any], pictures: int, reason: str) -> None:
    assert packed(tmp_path, fields, pictures).counts.rejected == {reason: 1}
