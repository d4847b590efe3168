"""A Hub that lies, dawdles and leads astray: bounded time, one line, nothing wrong accepted, no token let slip."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pipeline.net.download_file import fetch
from pipeline.net.http_client import Web
from pipeline.net.hub import HubError, Repository, Revision, Server
from pipeline.net.patience import Patience
from pipeline.net.trouble import Failed
from pipeline.net.wanted_file import Fetched, Want
from schemas.strict import RecipeError
from stages.sources.declaration import HubDataset
from tests.pipeline.net.rogue_server import Pieces, Rogue, Script, answer, as_json, misbehaving

DATA = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(len(DATA))
DIGEST = hashlib.sha256(DATA).hexdigest()
TOKEN = "hf_SECRET"
QUICK = Patience(attempts=3, first_wait=0.01, longest_wait=1.0, connect=1.0, read=0.4)
COMMIT = "c" * 40


@pytest.fixture
def rogue() -> Iterator[Rogue]:
    with misbehaving(Rogue()) as rogue:
        yield rogue


def begin(headers: Mapping[str, str]) -> int:
    return int(headers.get("Range", "bytes=0-")[6:-1])


def honest(_: int, headers: Mapping[str, str], data: bytes = DATA, **more: object) -> Pieces:
    start = begin(headers)
    part = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
    return answer(206 if start else 200, {"ETag": '"one"', **part, **more}, data[start:])


def cut(size: int) -> Script:
    """The first answer ends after so many bytes."""
    return lambda number, headers: [b"".join(honest(number, headers))[:size]]  # type: ignore[arg-type]


def then(*scripts: Script) -> Script:
    """One script for each request, the last for all others."""
    return lambda number, headers: scripts[min(number, len(scripts) - 1)](number, headers)


def at_random(number: int, headers: Mapping[str, str]) -> Pieces:
    pieces = b"".join(honest(number, headers))  # type: ignore[arg-type]
    return [pieces[: random.Random(number).randrange(len(pieces))] if number < 2 else pieces]


def dripping(_: int, headers: Mapping[str, str]) -> Pieces:
    yield from answer(200, {"Content-Length": len(DATA)})
    for start in itertools.count(0, 100):
        yield DATA[start : start + 100]
        yield 0.05


def moved(to: str) -> Script:
    return lambda *_: answer(302, {"Location": to})


def status(code: int, **headers: object) -> Script:
    return lambda *_: answer(code, {name.replace("_", "-"): value for name, value in headers.items()})


def fixed(code: int, body: bytes, **headers: object) -> Script:
    return lambda *_: answer(code, {name.replace("_", "-"): value for name, value in headers.items()}, body)


HEALING: dict[str, Script] = {
    "cuts at random bytes": at_random,
    "cut within the head": then(cut(10), honest),
    "wrong start": then(cut(9999), fixed(206, DATA[5:], Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}"), honest),
    "206 with the whole": then(
        cut(9999), fixed(206, DATA, Content_Range=f"bytes 0-{len(DATA) - 1}/{len(DATA)}"), honest
    ),
    "206 with the whole under a right head": then(
        cut(9999),
        lambda n, h: answer(206, {"Content-Range": f"bytes {begin(h)}-{len(DATA) - 1}/{len(DATA)}"}, DATA),
        honest,
    ),
    "206 without a range": then(cut(9999), fixed(206, DATA), honest),
    "206 of 5,000 digits": then(cut(9999), fixed(206, DATA, Content_Range="bytes 0-0/" + "9" * 5000), honest),
    "200 to a range, another version": then(cut(9999), fixed(200, DATA, ETag='"two"')),
    "another version midway": then(cut(9999), lambda n, h: honest(n, h, OTHER, ETag='"two"'), honest),
    "another version midway, not said": then(cut(9999), lambda n, h: honest(n, h, OTHER), honest),
    "corrupt once": then(fixed(200, OTHER), honest),
    "wrong X-Linked-Size": lambda n, h: honest(n, h, **{"X-Linked-Size": 5}),
    "416": then(cut(9999), status(416, Content_Range="bytes */5"), honest),
    "length that is no number": then(status(503, Content_Length="²"), honest),
    "redirect with an odd length": then(
        lambda *_: answer(302, {"Location": "/f?again", "Content-Length": "many"}), honest
    ),
    "Retry-After that is no number": then(status(503, Retry_After="²"), status(429, Retry_After="soon"), honest),
    "Retry-After in the past": then(status(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), honest),
    "Retry-After, an impossible date": then(status(503, Retry_After="Wed, 21 Oct 9999 07:28:00 -9959"), honest),
    "relative redirect": then(moved("f?x=1"), honest),
}  # fmt: skip


@pytest.mark.parametrize("case", HEALING)
def test_what_heals_ends_with_the_right_bytes(case: str, rogue: Rogue, tmp_path: Path) -> None:
    rogue.script["/f"] = HEALING[case]
    web = Web(["127.0.0.1"], QUICK)
    found = fetch(Want(f"{rogue.endpoint}/f", len(DATA), DIGEST), tmp_path / "f", web, TOKEN)
    assert found == Fetched(len(DATA), DIGEST)
    assert (tmp_path / "f").read_bytes() == DATA


STAYING: dict[str, tuple[Script, str]] = {
    "drips": (dripping, "timeout"),
    "drips in the head": (lambda *_: [b"HTTP/1.1 200 OK\r\nX: ", *[b"x", 0.3] * 2, 9.0], "timeout"),
    "length too big": (fixed(200, DATA, Content_Length=len(DATA) + 1), "wrong_content"),
    "length too small": (fixed(200, DATA, Content_Length=len(DATA) - 1), "wrong_content"),
    "no length, more bytes": (fixed(200, DATA + b"x", Content_Length=None), "wrong_content"),
    "no length, fewer bytes": (fixed(200, DATA[1:], Content_Length=None), "cut_short"),
    "corrupt": (fixed(200, OTHER), "wrong_content"),
    # only an ETag is no hash of what KMS keeps; a sha256 is proven whatever a server says
    "corrupt, and said to be encrypted": (fixed(200, OTHER, x_amz_server_side_encryption="aws:kms"), "wrong_content"),
    "gzip": (fixed(200, gzip.compress(DATA), Content_Encoding="gzip"), "wrong_content"),
    "chunks of nonsense": (fixed(200, b"zz\r\nxx", Content_Length=None, Transfer_Encoding="chunked"), "cut_short"),
    "no HTTP": (lambda *_: [b"SSH-2.0-OpenSSH_9.6\r\n"], "cut_short"),
    "nothing": (lambda *_: [], "cut_short"),
    "a thousand heads": (lambda *_: [b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000, b"\r\n"], "cut_short"),
    "Retry-After, huge": (status(429, Retry_After="9" * 5000), "rate_limited"),
    "Retry-After, a far date": (status(429, Retry_After="Wed, 21 Oct 2099 07:28:00 GMT"), "rate_limited"),
    "401 in spite of a token": (status(401), "forbidden"),
    "loop": (moved("/f"), "redirects"),
    "loopback by its name": (moved("http://localhost/f"), "address_refused"),
    "link-local": (moved("http://169.254.169.254/latest"), "address_refused"),
    "with a password": (moved("http://user:pass@127.0.0.1/f"), "bad_url"),
    "no address": (moved("http://[::1/f"), "bad_url"),
    "no port": (moved("http://127.0.0.1:99999/f"), "bad_url"),
    "another scheme": (moved("ftp://127.0.0.1/f"), "bad_url"),
}


@pytest.mark.parametrize("case", STAYING)
def test_what_stays_is_a_reason_in_bounded_time(case: str, rogue: Rogue, tmp_path: Path) -> None:
    rogue.script["/f"], reason = STAYING[case]
    started = time.monotonic()
    web = Web(["127.0.0.1"], QUICK)
    found = fetch(Want(f"{rogue.endpoint}/f", len(DATA), DIGEST), tmp_path / "f", web, TOKEN)
    assert isinstance(found, Failed) and found.reason == reason, found
    assert time.monotonic() - started < 10
    assert "\n" not in found.detail and TOKEN not in found.detail and len(found.detail) < 400
    assert not (tmp_path / "f").exists()


def test_a_token_follows_no_redirect_to_another_port_or_host(rogue: Rogue, tmp_path: Path) -> None:
    with misbehaving(Rogue({"/f": honest})) as other:
        rogue.script["/f"] = moved(f"{other.endpoint}/f")
        web = Web(["127.0.0.1"], QUICK)
        assert isinstance(fetch(Want(f"{rogue.endpoint}/f", len(DATA), DIGEST), tmp_path / "f", web, TOKEN), Fetched)
        assert [headers.get("Authorization") for _, headers in rogue.asked] == [f"Bearer {TOKEN}"]
        assert [headers.get("Authorization") for _, headers in other.asked] == [None]


def entry(path: Any = "a.parquet", size: Any = 300_000, oid: Any = "0" * 40, **more: Any) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": size, "oid": oid, **more}


TREE = f"/api/datasets/acme/x/tree/{COMMIT}"


def endless(number: int, _: Mapping[str, str]) -> Pieces:
    return as_json([], {"Link": f'<{TREE}?cursor=again>; rel="next"'})


def repeated(number: int, _: Mapping[str, str]) -> Pieces:
    more = {"Link": f'<http://elsewhere.invalid{TREE}?cursor={number}>; rel="next"'} if number < 3 else {}
    return as_json([entry()], more)


LISTINGS: dict[str, tuple[Any, str]] = {
    "repeats for ever": (endless, "does not end"),
    "the same page with other links": (repeated, "'a.parquet' is listed twice"),
    "twice on a page": ([entry(), entry()], "'a.parquet' is listed twice"),
    "no list": ({"files": []}, "another listing"),
    "a list of numbers": ([1, 2], "another listing"),
    "null": (None, "another listing"),
    "file and folder": ([entry("a"), entry("a/b")], "'a' is listed as a file and as a folder"),
    "climbing": ([entry("../a")], "can't be a file's name"),
    "absolute": ([entry("/etc/a")], "can't be a file's name"),
    "partial file": ([entry("a.partial.json")], "can't be a file's name"),
    "folder like a partial file": ([entry("a.partial/b")], "can't be a file's name"),
    "line end": ([entry("a\nerror: b")], "can't be a file's name"),
    "line end of Unicode": ([entry("a\u2028error: b")], "can't be a file's name"),
    "escape": ([entry("a\x1b[2Jb")], "can't be a file's name"),
    "half a character": ([entry("a\ud800")], "can't be a file's name"),
    "no path": ([entry(None)], "lacks path"),
    "negative size": ([entry(size=-1)], "listed with -1 bytes"),
    "more than there is": ([entry(size=10**40)], "bytes"),
    "size in words": ([entry(size="5")], "lacks path, size or hash"),
    "no oid": ([entry(oid=None)], "lacks path, size or hash"),
    "odd oid": ([entry(oid="x" * 40)], "listed with the hash"),
    "lfs in words": ([entry(lfs="yes")], "lacks path, size or hash"),
    "lfs without a hash": ([entry(lfs={"size": 5})], "lacks path, size or hash"),
    "compressed": (fixed(200, gzip.compress(b"[]"), Content_Encoding="gzip"), "without JSON"),
    "a page of HTML": (fixed(200, b"<html>"), "without JSON"),
    "a number of 5,000 digits": (fixed(200, b"[" + b"9" * 5000 + b"]"), "without JSON"),
    "brackets without end": (fixed(200, b"[" * 100_000), "without JSON"),
    "too much": (lambda *_: [*answer(200, {"Content-Length": 1 << 30}), *[bytes(1 << 20)] * 70], "too_large"),
    "503 for ever": (status(503), "HTTP 503 (server_error); run again later"),
}


def repository(rogue: Rogue, revision: str = COMMIT) -> Repository:
    server = Server(rogue.endpoint, ("127.0.0.1",), QUICK, TOKEN)
    return Repository(server, server.web(), "data.sources.fine.hub", HubDataset("acme/x", revision))


@pytest.mark.parametrize("case", LISTINGS)
def test_a_listing_that_can_t_be_is_one_line(case: str, rogue: Rogue) -> None:
    given, message = LISTINGS[case]
    rogue.script[TREE] = given if callable(given) else lambda *_: as_json(given)
    with pytest.raises(HubError) as error:
        repository(rogue).files(COMMIT)
    line = str(error.value)
    assert message in line and line.startswith("data.sources.fine.hub: ")
    assert "\n" not in line and "\x1b" not in line and TOKEN not in line and len(line) < 500
    assert len(rogue.asked) < 10


@pytest.mark.parametrize(
    ("troubles", "told"),
    [
        ([status(503)], []),
        ([status(503, Retry_After=1)], [" in 1 s"]),
        ([status(503, Retry_After=1), status(429, Retry_After=0)], [" in 1 s"]),
        ([lambda *_: [0.6], lambda *_: [0.6]], [" in 0 s"]),
    ],
    ids=["short", "a long wait", "once", "a long silence"],
)
def test_a_long_wait_is_told_once(
    troubles: list[Script], told: list[str], rogue: Rogue,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("pipeline.net.retries._LONG", 0.8)
    rogue.script[TREE] = then(*troubles, lambda *_: as_json([]))
    assert repository(rogue).files(COMMIT) == []
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(told) and all(line.endswith(end) for line, end in zip(lines, told, strict=True))
    assert all(line.startswith("note: data.sources.fine.hub: http://127.0.0.1") for line in lines)


MENDED = {
    "forbidden": (status(403), "data.sources.fine.hub.dataset: acme/x is gated; accept its terms at http://127.0.0.1"),
    "unknown": (status(401), "data.sources.fine.hub.dataset: no acme/x at http://127.0.0.1"),
    "away": (status(404), "the token may not see it"),
    "led inside": (moved("http://169.254.169.254/x"), "run.allow_hosts: [169.254.169.254] would admit it"),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_the_user_can_mend_is_the_recipe_s(case: str, rogue: Rogue) -> None:
    rogue.script[TREE], message = MENDED[case]
    with pytest.raises(RecipeError, match=re.escape(message)):
        repository(rogue).files(COMMIT)
    assert len(rogue.asked) == 1


@pytest.mark.parametrize("sha", [None, 5, "c" * 64, "C" * 40, "c" * 39, "main", ["c" * 40], "d" * 40])
def test_a_commit_that_is_none_or_another_is_one_line(sha: Any, rogue: Rogue) -> None:
    for revision in (COMMIT, "main"):
        rogue.script[f"/api/datasets/acme/x/revision/{revision}"] = lambda *_: as_json({"sha": sha})
    another = sha == "d" * 40
    with pytest.raises(HubError, match="asked for commit c" if another else "names no commit for"):
        repository(rogue).commit()
    if another:
        assert repository(rogue, "main").commit() == sha
    else:
        with pytest.raises(HubError, match="names no commit for 'main'"):
            repository(rogue, "main").commit()


def test_a_revision_with_a_slash_is_one_name(rogue: Rogue) -> None:
    rogue.script["/api/datasets/acme/x/revision/refs%2Fconvert%2Fparquet"] = lambda *_: as_json({"sha": COMMIT})
    assert repository(rogue, "refs/convert/parquet").commit() == COMMIT


def test_a_page_that_drips_ends(rogue: Rogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.net.hub._PAGE_SECONDS", 0.5)
    rogue.script[TREE] = lambda *_: [*answer(200, {"Content-Length": 100}), *[b" ", 0.1] * 100]
    started = time.monotonic()
    with pytest.raises(HubError, match="not there in the time allowed"):
        repository(rogue).files(COMMIT)
    assert time.monotonic() - started < 5


def test_a_long_listing_takes_no_time_to_speak_of(rogue: Rogue) -> None:
    """A hundred pages of a thousand: every page costs the same."""

    def page(number: int, _: Mapping[str, str]) -> Pieces:
        more = {"Link": f'<{TREE}?cursor={number}>; rel="next"'} if number < 99 else {}
        return as_json([entry(f"{number}/{k}") for k in range(1000)], more)

    rogue.script[TREE] = page
    source = repository(rogue)
    patient = Web(["127.0.0.1"], Patience(read=30.0))  # a busy machine takes its time to write them
    assert len(replace(source, web=patient).files(COMMIT)) == 100_000


NAMES = [
    "geoqa+(mathv360k), x/a b.parquet", "50%/a#b?c&d=e;f.parquet", "写真/絵🎨.parquet", "back\\slash/co:lon'\".parquet",
    "~/$HOME/`x`.parquet", "-rf.parquet", "%2e%2e/%2F.parquet",
]  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, "n" * 300 + ".parquet"])
def test_names_of_every_kind_arrive(name: str, rogue: Rogue, tmp_path: Path) -> None:
    rogue.script[TREE] = lambda *_: as_json([entry(name, lfs={"oid": DIGEST, "size": len(DATA)})])
    rogue.script[f"/datasets/acme/x/resolve/{COMMIT}/{quote(name)}"] = honest
    source = repository(rogue)
    (found,) = source.files(COMMIT)
    outcome = fetch(
        Revision(source.server, HubDataset("acme/x"), COMMIT).want(found), tmp_path / "files" / name, source.web, TOKEN
    )
    if len(name) > 255:
        assert isinstance(outcome, Failed) and "name too long" in outcome.detail
    else:
        assert outcome == Fetched(len(DATA), DIGEST)
        assert (tmp_path / "files" / name).read_bytes() == DATA


def test_names_that_differ_in_case_only_are_two_files(rogue: Rogue) -> None:
    rogue.script[TREE] = lambda *_: as_json([entry("Case.parquet"), entry("case.parquet")])
    assert [found.file for found in repository(rogue).files(COMMIT)] == ["Case.parquet", "case.parquet"]
