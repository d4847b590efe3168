"""The beginning of a file: held by one process, believed if it is of this very file, and told from every other."""

from __future__ import annotations

import fcntl
import hashlib
import json
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import urllib3

from pipeline.net.answer import Answer
from pipeline.net.download_file import fetch
from pipeline.net.http_client import Web
from pipeline.net.partial_file import Partial, held
from pipeline.net.trouble import Failed, Trouble
from pipeline.net.wanted_file import Fetched, Want

DATA = random.Random(3).randbytes(1 << 21)  # as much as is worth a note
HALF = 1 << 20
SHA256, MD5 = hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()
GIT = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
URL = "http://h/f?key=one"


def came(status: int = 200, size: int | None = len(DATA), **headers: str) -> Answer:
    named = {"Content-Length": str(size)} if size is not None else {}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(urllib3.HTTPResponse(), URL, status, urllib3.HTTPHeaderDict(named), 0)


def rest(start: int = HALF, total: int = len(DATA), **headers: str) -> Answer:
    return came(206, None, Content_Range=f"bytes {start}-{total - 1}/{total}", **headers)


def write(partial: Partial, data: bytes) -> None:
    with partial.path.open("r+b" if partial.size else "wb", buffering=0) as stream:
        stream.seek(partial.size)
        partial.add(stream, data)


def begun(target: Path, want: Want, data: bytes = DATA[:HALF], **headers: str) -> None:
    """A file that another process began."""
    partial = Partial(target, want)
    partial.begin(came(**headers))
    write(partial, data)


@pytest.mark.parametrize("digest", [SHA256, MD5, GIT, None], ids=["sha256", "md5", "git", "none"])
def test_a_beginning_is_gone_on_with_and_proven(digest: str | None, tmp_path: Path) -> None:
    want = Want(URL, len(DATA), digest)
    begun(tmp_path / "f", want, ETag='"one"')
    partial = Partial(tmp_path / "f", want)
    assert partial.headers() == {"Range": f"bytes={HALF}-", "If-Range": '"one"'}
    partial.begin(rest(ETag='"one"'))
    write(partial, DATA[HALF:])
    assert partial.finish() == Fetched(len(DATA), SHA256)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"f": DATA}


CHANGED: dict[str, tuple[Want, Want, dict[str, str]]] = {
    "another hash": (Want(URL, len(DATA), SHA256), Want(URL, len(DATA), "0" * 64), {"ETag": '"one"'}),
    "another version": (Want(URL, len(DATA), None, '"one"'), Want(URL, len(DATA), None, '"two"'), {"ETag": '"one"'}),
    "another address": (Want(URL, len(DATA)), Want("http://h/g", len(DATA)), {"ETag": '"one"'}),
    "no hash, no version": (Want(URL, len(DATA)), Want(URL, len(DATA)), {}),
    "a weak version": (Want(URL, len(DATA)), Want(URL, len(DATA)), {"ETag": 'W/"one"'}),
    "a version that is no ETag": (Want(URL, len(DATA)), Want(URL, len(DATA)), {"ETag": "one"}),
    "more than there is": (Want(URL, None, SHA256), Want(URL, HALF - 1, SHA256), {}),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_beginning_of_something_else_is_not(case: str, tmp_path: Path) -> None:
    before, after, headers = CHANGED[case]
    begun(tmp_path / "f", before, **headers)
    partial = Partial(tmp_path / "f", after)
    assert partial.size == 0 and "Range" not in partial.headers()


@pytest.mark.parametrize("note", ["", "[]", "null", '"x"', "{}", "{", "\x00"])
def test_a_note_that_says_nothing_is_no_beginning(note: str, tmp_path: Path) -> None:
    begun(tmp_path / "f", Want(URL, len(DATA), SHA256))
    (tmp_path / "f.partial.json").write_text(note)
    assert Partial(tmp_path / "f", Want(URL, len(DATA), SHA256)).size == 0


def test_a_signature_is_neither_written_down_nor_a_part_of_what_the_file_is(tmp_path: Path) -> None:
    for number, named in enumerate(({"digest": SHA256}, {"version": '"one"'})):
        target = tmp_path / str(number)
        begun(target, Want(URL, len(DATA), **named), ETag='"one"')
        assert Partial(target, Want("http://h/f?key=two", len(DATA), **named)).size == HALF
    begun(tmp_path / "f", Want(URL, len(DATA)), ETag='"one"')
    assert not any("key=" in path.read_text() for path in tmp_path.glob("*.json"))


def test_a_version_that_every_answer_must_have_is_asked_for(tmp_path: Path) -> None:
    want = Want(URL, len(DATA), MD5, f'"{MD5}"')
    assert Partial(tmp_path / "f", want).headers() == {"If-Match": f'"{MD5}"'}
    begun(tmp_path / "f", want, ETag=f'"{MD5}"')
    # If-Range would be the weaker question: it gives the whole of another version
    assert Partial(tmp_path / "f", want).headers() == {"If-Match": f'"{MD5}"', "Range": f"bytes={HALF}-"}


WRONG: dict[str, tuple[Answer, int]] = {
    "another size": (rest(total=len(DATA) + 1), 0),
    "another start": (rest(HALF - 1), 0),
    "another version": (rest(ETag='"two"'), 0),
    "no range at all": (came(206), HALF),  # its head may have been cut: the beginning is kept for one more try
}


@pytest.mark.parametrize("case", WRONG)
def test_another_part_than_asked_for_is_refused(case: str, tmp_path: Path) -> None:
    answer, kept = WRONG[case]
    want = Want(URL, len(DATA), SHA256)
    begun(tmp_path / "f", want, ETag='"one"')
    partial = Partial(tmp_path / "f", want)
    with pytest.raises(Trouble, match="wrong_content"):
        partial.begin(answer)
    assert partial.size == (tmp_path / "f.partial").stat().st_size == kept
    assert (tmp_path / "f.partial.json").exists() is bool(kept)


def test_a_whole_answer_to_a_range_starts_anew(tmp_path: Path) -> None:
    want = Want(URL, len(DATA), SHA256)
    begun(tmp_path / "f", want, b"x" * HALF)
    partial = Partial(tmp_path / "f", want)
    partial.begin(came())
    write(partial, DATA)
    assert partial.finish() == Fetched(len(DATA), SHA256)


def test_a_version_is_remembered_where_a_later_answer_has_none(tmp_path: Path) -> None:
    want = Want(URL, len(DATA))
    begun(tmp_path / "f", want, ETag='"one"')
    partial = Partial(tmp_path / "f", want)
    partial.begin(rest())
    write(partial, DATA[HALF : HALF + 10])
    assert Partial(tmp_path / "f", want).headers()["If-Range"] == '"one"'


@pytest.mark.parametrize(
    ("size", "listed", "noted"),
    [(10, 10, False), (10, None, False), (HALF, None, True), (HALF, HALF, True), (None, None, True)],
)
def test_a_small_file_gets_no_note(size: int | None, listed: int | None, noted: bool, tmp_path: Path) -> None:
    (tmp_path / "f.partial.json").write_text("of a larger file that was to have this name")
    Partial(tmp_path / "f", Want(URL, listed)).begin(came(size=size))
    assert (tmp_path / "f.partial.json").exists() is noted


ENDS: dict[str, tuple[Want, bytes, Mapping[str, str], str, int]] = {
    "too little": (Want(URL, len(DATA), SHA256), DATA[:HALF], {}, "cut_short", HALF),
    "too much": (Want(URL, len(DATA), SHA256), DATA + b"x", {}, "wrong_content", 0),
    "other bytes": (Want(URL, len(DATA), SHA256), DATA[::-1], {}, "wrong_content", 0),
    "other bytes, by git": (Want(URL, len(DATA), GIT), DATA[::-1], {}, "wrong_content", 0),
    "other bytes, by ETag": (Want(URL, len(DATA), MD5), DATA[::-1], {}, "wrong_content", 0),
    "by sha256, and KMS": (
        Want(URL, len(DATA), SHA256), DATA[::-1], {"x-amz-server-side-encryption": "aws:kms"}, "wrong_content", 0
    ),
    "by ETag, and another encryption": (
        Want(URL, len(DATA), MD5), DATA[::-1], {"x-amz-server-side-encryption": "AES256"}, "wrong_content", 0
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_what_is_not_the_file_never_gets_its_name(case: str, tmp_path: Path) -> None:
    want, data, headers, reason, kept = ENDS[case]
    partial = Partial(tmp_path / "f", want)
    partial.begin(came(**headers))
    with pytest.raises(Trouble, match=reason):
        write(partial, data)
        partial.finish()
    assert not (tmp_path / "f").exists()
    assert Partial(tmp_path / "f", want).size == (tmp_path / "f.partial").stat().st_size == kept


@pytest.mark.parametrize("kind", ["aws:kms", "aws:kms:dsse"])
def test_an_etag_is_no_hash_of_what_kms_encrypts_not_even_after_a_kill(kind: str, tmp_path: Path) -> None:
    want = Want(URL, len(DATA), "0" * 32, '"%s"' % ("0" * 32))
    begun(tmp_path / "f", want, DATA, **{"x-amz-server-side-encryption": kind})
    partial = Partial(tmp_path / "f", want)
    assert partial.size == partial.total
    assert partial.finish() == Fetched(len(DATA), SHA256)


def test_a_note_can_t_make_a_sha256_unproven(tmp_path: Path) -> None:
    want = Want(URL, len(DATA), SHA256)
    begun(tmp_path / "f", want, DATA[::-1])
    note = tmp_path / "f.partial.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"unproven": True}))
    with pytest.raises(Trouble, match="wrong_content"):
        Partial(tmp_path / "f", want).finish()


def locked(path: Path) -> bool:
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_who_waited_holds_the_file_that_is_there_now(tmp_path: Path) -> None:
    """Not the one that has got its name meanwhile: then two would write to the next."""
    partial = tmp_path / "f.partial"
    found: list[Any] = []

    def second() -> None:
        with held(partial):
            found.append(locked(partial))

    with held(partial):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.3)
        assert found == [] and locked(partial)
        partial.write_bytes(DATA)
        partial.rename(tmp_path / "f")
    waiting.join(10)
    assert found == [True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f"]


def test_a_file_that_another_process_keeps_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.net.partial_file._LINGERS", 0.2)
    with held(tmp_path / "f.partial"):
        found = fetch(Want("http://127.0.0.1:1/f"), tmp_path / "f", Web(["127.0.0.1"]))
    assert found == Failed("disk", "f: another process is fetching this file", True)
