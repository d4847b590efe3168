"""Images by name from a folder or a zip: nothing outside is read, nothing hostile crashes."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import subprocess
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.images.rules import BadImage
from stages.sources.archives.image_files import ImageFiles, Place, places
from stages.sources.listing import Listed
from stages.sources.records.streams import DataError
from tests.stages.pictures import images_in

CONTENT = b"picture " * 50


def entry(name: str, data: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info


@pytest.fixture(params=["folder", "stored zip", "deflated zip", "tar", "tar of ./"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ImageFiles]:
    (tmp_path / "secret.png").write_bytes(b"secret")
    root = tmp_path / "images"
    if request.param == "folder":
        (root / "a").mkdir(parents=True)
        (root / "a" / "é 1.png").write_bytes(CONTENT)
        (root / "large.png").write_bytes(bytes(2000))
    elif request.param.startswith("tar"):
        root = root.with_suffix(".tar")
        lead = "./" if request.param == "tar of ./" else ""
        with tarfile.open(root, "w") as archive:
            for name, data in (("a/é 1.png", CONTENT), ("large.png", bytes(2000))):
                archive.addfile(entry(lead + name, data), io.BytesIO(data))
            for name in ("../secret.png", "/etc/x.png"):
                archive.addfile(entry(name, b"secret"), io.BytesIO(b"secret"))
    else:
        root = root.with_suffix(".zip")
        kind = zipfile.ZIP_DEFLATED if request.param == "deflated zip" else zipfile.ZIP_STORED
        with zipfile.ZipFile(root, "w", kind) as archive:
            archive.writestr("a/é 1.png", CONTENT)
            archive.writestr("large.png", bytes(2000))
            archive.writestr("../secret.png", b"secret")
            archive.writestr("/etc/x.png", b"secret")
    found = images_in(root, max_bytes=1000) if root.is_dir() else ImageFiles(root, max_bytes=1000)
    yield found
    found.close()


def refusal(files: ImageFiles, name: str) -> BadImage:
    with pytest.raises(BadImage) as caught:
        files.read(name)
    return caught.value


def test_a_named_image_is_read_whole(files: ImageFiles) -> None:
    assert files.read("a/é 1.png") == CONTENT


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/",
        "..",
        "../secret.png",
        "a/../../secret.png",
        "a/../a/é 1.png",
        "/etc/passwd",
        "/etc/x.png",
        "a/é 1.png\0",
        "missing.png",
        "a/missing.png",
        "a/é 1.png/more",
        "x" * 5000,
        "\ud800.png",
        "A/É 1.PNG",
    ],
)
def test_names_that_lead_elsewhere_or_nowhere_are_missing(files: ImageFiles, name: str) -> None:
    assert refusal(files, name).reason == "image_missing"


def test_a_file_above_the_cap_is_refused_unread(files: ImageFiles) -> None:
    error = refusal(files, "large.png")
    assert error.reason == "image_too_large" and "2,000 bytes, at most 1,000" in error.detail


def test_links_count_by_where_they_lead(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "real.png").write_bytes(CONTENT)
    (root / "inside.png").symlink_to("real.png")
    (root / "outside.png").symlink_to(tmp_path / "secret.png")
    (root / "up").symlink_to(tmp_path)
    (root / "loop.png").symlink_to("loop.png")
    os.mkfifo(root / "pipe.png")
    files = images_in(root)
    assert files.read("inside.png") == CONTENT
    for name in ("outside.png", "up/secret.png", "loop.png", "pipe.png"):
        assert refusal(files, name).reason == "image_missing"


def test_a_sibling_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images-private").mkdir()
    (tmp_path / "images-private" / "x.png").write_bytes(b"secret")
    (tmp_path / "images" / "link").symlink_to(tmp_path / "images-private")
    assert refusal(images_in(tmp_path / "images"), "link/x.png").reason == "image_missing"


def test_a_source_without_images_has_none() -> None:
    assert refusal(ImageFiles(None), "a.png").reason == "image_missing"


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED])
def test_damaged_members_are_unreadable_or_whole(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("a.png", CONTENT)
    whole = path.read_bytes()
    start = whole.index(b"a.png") + 5
    length = zipfile.ZipFile(path).getinfo("a.png").compress_size
    refused = 0
    for at in range(start, start + length, 3):
        data = bytearray(whole)
        data[at] ^= 0x5A
        path.write_bytes(data)
        files = ImageFiles(path)
        try:  # a few bytes of a member's header mean nothing
            assert files.read("a.png") == CONTENT
        except BadImage as error:
            assert error.reason == "image_unreadable"
            refused += 1
        files.close()
    assert refused


@pytest.mark.parametrize("data", [b"", b"junk", b"PK\x05\x06"])
def test_an_archive_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(DataError, match="not a readable zip"):
        ImageFiles(path)
    with pytest.raises(DataError, match="not a readable archive"):
        ImageFiles(tmp_path / "missing.zip")


# ---- links, devices, folders inside archives


def test_nothing_but_files_is_read_from_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(entry("real.png", CONTENT), io.BytesIO(CONTENT))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.png")
            info.type, info.linkname = kind, "real.png"
            archive.addfile(info)
        sparse = tarfile.TarInfo("sparse.png")
        sparse.type = tarfile.GNUTYPE_SPARSE
        archive.addfile(sparse)
    files = ImageFiles(tmp_path / "a.tar")
    assert files.read("real.png") == CONTENT
    for name in ("1.png", "2.png", "3.png", "5.png", "6.png", "sparse.png"):
        error = refusal(files, name)
        assert error.reason == "image_missing" and "not a file" in error.detail
    files.close()


def test_links_and_folders_in_a_zip_are_missing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("folder/", b"")
    files = ImageFiles(tmp_path / "a.zip")
    assert "folder or a link" in refusal(files, "link.png").detail
    assert refusal(files, "folder/").reason == "image_missing"
    files.close()


def test_a_zip_that_inflates_to_more_than_it_says_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(50_000_000))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2")
    struct.pack_into("<L", data, at + 24, 900)
    path.write_bytes(data)
    files = ImageFiles(path, max_bytes=1000)
    assert refusal(files, "a.png").reason == "image_unreadable"
    files.close()


def in_directory(path: Path, at: int, layout: str, *values: int) -> None:
    """Overwrite fields of the first entry in a zip's directory."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.index(b"PK\1\2") + at, *values)
    path.write_bytes(data)


def test_a_member_is_inflated_no_further_than_its_stated_size(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(200_000_000))
    in_directory(tmp_path / "a.zip", 24, "<L", 900)
    files = ImageFiles(tmp_path / "a.zip")
    tracemalloc.start()
    try:
        assert refusal(files, "a.png").reason == "image_unreadable"
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
        files.close()


@pytest.mark.parametrize(
    ("at", "layout", "values", "detail"),
    [
        (8, "<H", (1,), "is encrypted"),
        (10, "<H", (99,), "compression method is not supported"),
        (16, "<L", (1,), "Bad CRC-32"),
        (20, "<LL", (200_000_000, 200_000_000), "it ends early"),
        (20, "<LL", (400, 200), "Bad CRC-32"),
        (42, "<L", (5,), "Bad magic number"),
        (42, "<L", (2**32 - 2,), "Truncated file header"),
    ],
)
def test_a_member_that_lies_is_unreadable_and_the_next_is_read(
    tmp_path: Path, at: int, layout: str, values: tuple[int, ...], detail: str
) -> None:
    path = archived(tmp_path / "a.zip", **{"a.png": CONTENT, "b.png": CONTENT})
    in_directory(path, at, layout, *values)
    files = ImageFiles(path)
    error = refusal(files, "a.png")
    assert error.reason == "image_unreadable" and detail in error.detail
    assert files.read("b.png") == CONTENT
    files.close()


def test_a_zip_with_something_before_or_behind_it_is_read(tmp_path: Path) -> None:
    path = archived(tmp_path / "a.zip", **{"a.png": CONTENT})
    path.write_bytes(b"#!/bin/sh\n" * 1000 + path.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"c" * 60_000
    files = ImageFiles(path)
    assert files.read("a.png") == CONTENT
    files.close()


@pytest.mark.parametrize("kind", [".zip", ".tar"])
def test_of_members_with_one_name_the_last_counts_and_no_name_is_repaired(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a{kind}"
    members = [("a.png", b"1"), ("a.png", b"2"), ("d\\b.png", b"3"), ("n" * 60_000, b"4"), ("x/../c.png", b"5")]
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as zipped, warnings.catch_warnings(action="ignore"):
            for name, data in members:
                zipped.writestr(name, data)
    else:
        with tarfile.open(path, "w") as tarred:
            for name, data in members:
                tarred.addfile(entry(name, data), io.BytesIO(data))
    files = ImageFiles(path)
    assert [files.read(name) for name in ("a.png", "d\\b.png", "n" * 60_000)] == [b"2", b"3", b"4"]
    for name in ("d/b.png", "c.png", "x/../c.png"):
        assert refusal(files, name).reason == "image_missing"
    files.close()


def test_members_that_share_their_data_are_each_under_the_cap_or_unreadable(tmp_path: Path) -> None:
    """Overlapping members: a small zip that unpacks to anything. Each is read alone, so none is more than itself."""
    path = archived(tmp_path / "a.zip", **{"a.png": CONTENT, "b.png": CONTENT})
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    struct.pack_into("<L", data, second + 42, 0)
    path.write_bytes(data)
    files = ImageFiles(path)
    assert files.read("a.png") == CONTENT
    assert refusal(files, "b.png").reason == "image_unreadable"
    files.close()


@pytest.mark.parametrize("lost", [1, 30, 100, 600])
def test_a_zip_that_was_cut_is_refused(tmp_path: Path, lost: int) -> None:
    path = archived(tmp_path / "a.zip", **{f"{n}.png": CONTENT for n in range(5)})
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DataError, match=r"a\.zip: not a readable zip archive .*fetch it again"):
        ImageFiles(path)


def pax(**records: str) -> bytes:
    """A tar of one member behind an extended header that says these."""
    lines = b""
    for key, value in records.items():
        body = f" {key}={value}\n".encode()
        lines += str(len(body) + len(str(len(body) + 2))).encode() + body
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(lines)
    lines += bytes(-len(lines) % 512)
    return header.tobuf() + lines + entry("a.png", CONTENT).tobuf() + CONTENT.ljust(512, b"\0") + bytes(1024)


@pytest.mark.parametrize("size", ["99999999999", "-5", "9" * 5000])
def test_a_tar_whose_sizes_lie_is_refused(tmp_path: Path, size: str) -> None:
    (tmp_path / "a.tar").write_bytes(pax(size=size))
    with pytest.raises(DataError, match=r"a\.tar: .*fetch it again"):
        ImageFiles(tmp_path / "a.tar")


def test_a_tar_of_headers_upon_headers_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 5
    (tmp_path / "a.tar").write_bytes((header.tobuf() + b"abcd\0".ljust(512, b"\0")) * 2000 + pax())
    with pytest.raises(DataError, match=r"a\.tar: .*fetch it again"):
        ImageFiles(tmp_path / "a.tar")


@pytest.mark.parametrize("tail", [b"garbage" * 100, pax()])
def test_a_tar_with_something_behind_its_end_is_refused(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(pax() + tail)
    with pytest.raises(DataError, match="another archive, after byte"):
        ImageFiles(tmp_path / "a.tar")


# ---- several archives, and archives in parts


def archived(path: Path, **members: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, data in members.items():
                zipped.writestr(name, data)
    else:
        with tarfile.open(path, "w") as tarred:
            for name, data in members.items():
                tarred.addfile(entry(name, data), io.BytesIO(data))
    return path


def found(root: Path, *patterns: str) -> list[Place]:
    files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    return places(root, patterns, [Listed(file, (root / file).stat().st_size, "") for file in files])


def test_names_are_looked_up_in_every_place(tmp_path: Path) -> None:
    archived(tmp_path / "one.zip", **{"a.png": b"a", "same.png": b"s", "other.png": b"1"})
    archived(tmp_path / "sub" / "two.tar", **{"b.png": b"b", "same.png": b"s", "other.png": b"2"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "c.png").write_bytes(b"c")
    files = images_in(tmp_path, "folder", "*.zip", "sub/*.tar")
    assert [files.read(f"{name}.png") for name in ("a", "b", "c", "sub/b", "same")] == [b"a", b"b", b"c", b"b", b"s"]
    assert refusal(files, "other.png").reason == "image_ambiguous"
    assert refusal(files, "d.png").reason == "image_missing"
    assert files.read("sub/other.png") == b"2"
    files.close()


def cut(path: Path, names: list[str]) -> None:
    """The file in pieces of equal size with these names; the file itself goes."""
    data = path.read_bytes()
    step = len(data) // len(names) + 1
    for number, name in enumerate(names):
        (path.parent / name).write_bytes(data[number * step : number * step + step])
    path.unlink()


@pytest.mark.parametrize("kind", [".tar", ".zip"])
@pytest.mark.parametrize(
    ("name", "first"), [("x{kind}_part{n}", 1), ("x{kind}.part{n}", 0), ("part_{n:02}", 0), ("x{kind}.{n:03}", 1)]
)
def test_parts_are_joined_by_number(tmp_path: Path, kind: str, name: str, first: int) -> None:
    contents = {f"{n}.png": bytes([n]) * (n * 300) for n in range(40)}
    names = [name.format(kind=kind, n=n) for n in range(first, first + 12)]
    cut(archived(tmp_path / f"whole{kind}", **contents), names)
    (place,) = found(tmp_path, "*")
    assert [Path(part).name for part in place.parts] == names
    files = ImageFiles([place])
    assert {member: files.read(member) for member in contents} == contents
    files.close()
    (tmp_path / names[7]).unlink()
    with pytest.raises(DataError, match=f"part {first + 7} is missing"):
        found(tmp_path, "*")


def test_a_split_zip_is_read_by_its_disks(tmp_path: Path) -> None:
    """What `zip -s` writes: every offset counts from the beginning of the part it lies in, directory offset too."""
    contents = {f"{n}.png": bytes([n]) * 1000 for n in range(12)}
    whole = archived(tmp_path / "whole.zip", **contents)
    with zipfile.ZipFile(whole) as archive:
        offsets, directory = [info.header_offset for info in archive.infolist()], archive.start_dir
    data = bytearray(b"PK\7\10" + whole.read_bytes())
    ends = [offsets[5] + 4, offsets[9] + 4]  # the parts end where a member begins
    starts = [0, *ends]
    at = directory + 4
    for offset in offsets:
        disk = max(n for n, start in enumerate(starts) if start <= offset + 4)
        struct.pack_into("<H", data, at + 34, disk)
        struct.pack_into("<L", data, at + 42, offset + 4 - starts[disk])
        at = data.find(b"PK\1\2", at + 4)
    end = data.rindex(b"PK\5\6")
    struct.pack_into("<HH", data, end + 4, 2, 2)
    struct.pack_into("<L", data, end + 16, directory + 4 - starts[2])
    whole.unlink()
    for name, begin, stop in zip(("x.z01", "x.z02", "x.zip"), starts, [*ends, len(data)], strict=True):
        (tmp_path / name).write_bytes(data[begin:stop])
    (place,) = found(tmp_path, "x.*")
    files = ImageFiles([place])
    assert {member: files.read(member) for member in contents} == contents
    files.close()
    (tmp_path / "x.zip").unlink()
    with pytest.raises(DataError, match=r"x\.zip: missing beside x\.z02"):
        found(tmp_path, "x.*")


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs Info-ZIP's zip")
def test_what_info_zip_splits_is_read(tmp_path: Path) -> None:
    contents = {f"{n}.png": os.urandom(9000) for n in range(40)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    subprocess.run(["zip", "-q", "-s", "64k", "x.zip", *contents], cwd=tmp_path, check=True)
    (place,) = found(tmp_path, "x.z*")
    assert len(place.parts) > 3
    files = ImageFiles([place])
    assert {member: files.read(member) for member in contents} == contents
    files.close()


def test_compressed_tars_are_refused_with_what_to_do(tmp_path: Path) -> None:
    whole = archived(tmp_path / "x.tar", a=b"1")
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(whole.read_bytes()))
    with pytest.raises(DataError, match="unpack it"):
        found(tmp_path, "x.tar.gz")
    cut(tmp_path / "x.tar.gz", ["x.tar.gz_part1", "x.tar.gz_part2"])
    with pytest.raises(DataError, match=r"x\.tar\.gz_part1 \.\.\. .*part2: a tar inside gzip"):
        ImageFiles(found(tmp_path, "x.tar.gz_part*"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nowhere", "no such folder or archive"),
        ("*.jpg", "neither a folder nor a zip"),
        ("x.tar", "not a readable tar"),
    ],
)
def test_places_that_are_none_are_refused(tmp_path: Path, pattern: str, message: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"1")
    (tmp_path / "x.tar").write_bytes(b"junk" * 1000)
    with pytest.raises(DataError, match=message):
        ImageFiles(found(tmp_path, pattern))


def test_a_tar_whose_end_is_missing_is_refused(tmp_path: Path) -> None:
    path = archived(tmp_path / "x.tar", **{f"{n}.png": CONTENT for n in range(9)})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"x\.tar: .*fetch it again"):
        ImageFiles(path)
