"""Images by name from a folder or a zip: nothing outside is read, nothing hostile crashes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.images import BadImage
from stages.sources.archive import ImageFiles
from stages.sources.records import DataError

CONTENT = b"picture " * 50


@pytest.fixture(params=["folder", "stored zip", "deflated zip"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ImageFiles]:
    (tmp_path / "secret.png").write_bytes(b"secret")
    root = tmp_path / "images"
    if request.param == "folder":
        (root / "a").mkdir(parents=True)
        (root / "a" / "é 1.png").write_bytes(CONTENT)
        (root / "large.png").write_bytes(bytes(2000))
    else:
        root = root.with_suffix(".zip")
        kind = zipfile.ZIP_DEFLATED if request.param == "deflated zip" else zipfile.ZIP_STORED
        with zipfile.ZipFile(root, "w", kind) as archive:
            archive.writestr("a/é 1.png", CONTENT)
            archive.writestr("large.png", bytes(2000))
            archive.writestr("../secret.png", b"secret")
            archive.writestr("/etc/x.png", b"secret")
    found = ImageFiles(root, max_bytes=1000)
    yield found
    if found._zip is not None:
        found._zip.close()


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
    files = ImageFiles(root)
    assert files.read("inside.png") == CONTENT
    for name in ("outside.png", "up/secret.png", "loop.png", "pipe.png"):
        assert refusal(files, name).reason == "image_missing"


def test_a_sibling_whose_name_begins_alike_is_outside(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images-private").mkdir()
    (tmp_path / "images-private" / "x.png").write_bytes(b"secret")
    (tmp_path / "images" / "link").symlink_to(tmp_path / "images-private")
    assert refusal(ImageFiles(tmp_path / "images"), "link/x.png").reason == "image_missing"


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
        assert files._zip is not None
        files._zip.close()
    assert refused


@pytest.mark.parametrize("data", [b"", b"junk", b"PK\x05\x06"])
def test_an_archive_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(DataError, match="not a readable zip"):
        ImageFiles(path)
    with pytest.raises(DataError, match="not a readable zip"):
        ImageFiles(tmp_path / "missing.zip")
