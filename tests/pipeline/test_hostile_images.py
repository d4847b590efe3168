"""Servers of images that lie, stall and never end: each one is a status with its reason, in bounded time."""

from __future__ import annotations

import gzip
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.net import fetch_many as collect
from pipeline.net.fetch_many import Crowd, Row
from pipeline.net.http_client import Patience, Web
from stages.fetch_images import HEALING
from stages.sources.declaration import UrlColumn

Answer = Callable[[socket.socket], object]


def picture(side: int = 40) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (200, 90, 120)).save(stream, "PNG")
    return stream.getvalue()


PICTURE = picture()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"


def sized(body: bytes, length: int | None = None, more: bytes = b"") -> bytes:
    return OK + more + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


@contextmanager
def raw(answer: Answer) -> Iterator[int]:
    """A server that reads one request of each connection, then does what it is told; its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += connection.recv(4096) or b"\r\n\r\n"
                answer(connection)
            except OSError:
                pass  # the client has seen enough

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def drip(data: bytes, every: float = 0.05, at_once: bytes = b"") -> Answer:
    def send(connection: socket.socket) -> None:
        connection.sendall(at_once)
        for place in range(len(data)):
            connection.sendall(data[place : place + 1])
            time.sleep(every)

    return send


def endless(head: bytes, piece: bytes) -> Answer:
    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    return send


def stall(head: bytes) -> Answer:
    def send(connection: socket.socket) -> None:
        connection.sendall(head)
        time.sleep(5)

    return send


def reply(data: bytes) -> Answer:
    return lambda connection: connection.sendall(data)


def moved(target: bytes) -> Answer:
    return reply(b"HTTP/1.1 302 Found\r\nLocation: " + target + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def status(line: bytes, more: bytes = b"") -> Answer:
    return reply(b"HTTP/1.1 " + line + b"\r\n" + more + b"Content-Length: 0\r\n\r\n")


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = b"%x\r\n" % len(PICTURE) + PICTURE + b"\r\n0\r\n\r\n"
SOON, LATE = (formatdate(time.time() + seconds, usegmt=True).encode() for seconds in (-5, 4000))

CASES: dict[str, tuple[Answer, str | None]] = {
    "whole": (reply(sized(PICTURE)), None),
    "chunked": (reply(CHUNKED + WHOLE), None),
    "until the connection closes": (reply(OK + b"\r\n" + PICTURE), None),
    "cut": (reply(sized(PICTURE[:50], len(PICTURE))), "cut_short"),
    "cut between chunks": (reply(CHUNKED + WHOLE[:60]), "cut_short"),
    "a chunk without a size": (reply(CHUNKED + b"zz\r\n" + PICTURE), "cut_short"),
    "a chunk of minus one": (reply(CHUNKED + b"-1\r\n" + PICTURE), "cut_short"),
    "stalls in the body": (stall(sized(PICTURE[:50], len(PICTURE))), "timeout"),
    "stalls in the headers": (stall(OK), "timeout"),
    "never answers": (stall(b""), "timeout"),
    "drips its body": (drip(PICTURE, 0.1, sized(b"", len(PICTURE))), "too_slow"),
    "drips a chunk": (drip(PICTURE, 0.1, CHUNKED + WHOLE[:4]), "too_slow"),
    "drips its headers": (drip(OK + b"X: " + b"x" * 10**5), "too_slow"),
    "drips header after header": (drip(OK + b"X: 1\r\n" * 10**5, 0.01), "too_slow"),
    "more than it says": (reply(sized(PICTURE + b"x" * 1000, len(PICTURE))), None),
    "less than it says": (reply(sized(PICTURE, len(PICTURE) + 1000)), "cut_short"),
    "a length that is no number": (reply(OK + b"Content-Length: ten\r\n\r\n" + PICTURE), None),
    "two lengths": (reply(OK + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n" + PICTURE), "cut_short"),
    "compressed": (reply(sized(gzip.compress(PICTURE), None, b"Content-Encoding: gzip\r\n")), "not_an_image"),
    "endless": (endless(OK + b"\r\n" + PICTURE, b"x" * 65536), "too_large"),
    "endless chunks": (endless(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"), "too_large"),
    "one endless chunk": (endless(CHUNKED + b"f" * 12 + b"\r\n", b"x" * 65536), "too_large"),
    "endless empty lines": (endless(b"", b"\r\n" * 1000), "cut_short"),
    "a page that calls itself a picture": (reply(sized(b"<html>gone</html>")), "not_an_image"),
    "nothing": (reply(sized(b"")), "not_an_image"),
    "204": (reply(b"HTTP/1.1 204 No Content\r\n\r\n"), "refused"),
    "a part that was not asked for": (status(b"206 Partial Content"), "refused"),
    "100 for ever": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "too_slow"),
    "429 in a second": (status(b"429 Slow", b"Retry-After: 1\r\n"), "rate_limited"),
    "429 in an hour": (status(b"429 Slow", b"Retry-After: 3600\r\n"), "rate_limited"),
    "429 by a date that is over": (status(b"429 Slow", b"Retry-After: " + SOON + b"\r\n"), "rate_limited"),
    "429 by a date in an hour": (status(b"429 Slow", b"Retry-After: " + LATE + b"\r\n"), "rate_limited"),
    "429 in minus one": (status(b"429 Slow", b"Retry-After: -1\r\n"), "rate_limited"),
    "429 in words": (status(b"429 Slow", b"Retry-After: \xb2 soon\r\n"), "rate_limited"),
    "429 in a power": (status(b"429 Slow", b"Retry-After: \xb2\r\n"), "rate_limited"),
    "429 in 5000 digits": (status(b"429 Slow", b"Retry-After: " + b"9" * 5000 + b"\r\n"), "rate_limited"),
    "429 in the year one": (
        status(b"429 Slow", b"Retry-After: Mon, 01 Jan 0001 00:00:00 -0000\r\n"), "rate_limited"
    ),
    "no http": (reply(b"SSH-2.0-OpenSSH_9.6\r\n"), "cut_short"),
    "a status that is no number": (reply(b"HTTP/1.1 abc OK\r\n\r\n"), "cut_short"),
    "a status of one digit": (reply(b"HTTP/1.1 2 OK\r\n\r\n"), "cut_short"),
    "bytes": (reply(bytes(range(256)) * 20), "cut_short"),
    "hangs up": (lambda connection: None, "cut_short"),
    "a header of 1 MB": (reply(OK + b"X: " + b"x" * 2**20 + b"\r\n\r\n" + PICTURE), "cut_short"),
    "headers of 1 MB": (reply(OK + (b"X: " + b"x" * 1000 + b"\r\n") * 1000 + b"\r\n" + PICTURE), "cut_short"),
    "to this machine": (moved(b"http://127.0.0.2/"), "address_refused"),
    "to the metadata": (moved(b"http://169.254.169.254/latest/meta-data/"), "address_refused"),
    "to a file": (moved(b"file:///etc/passwd"), "bad_url"),
    "to half an address": (moved(b"http://[::1"), "bad_url"),
    "to a port that is none": (moved(b"http://127.0.0.1:99999/"), "bad_url"),
    "to bytes": (moved(b"//\xff\xfe:\xfe/"), "bad_url"),
    "round and round": (moved(b"/again"), "redirects"),
    "to nowhere": (reply(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "refused"),
    "moved with a length that is no number": (
        reply(b"HTTP/1.1 302 Found\r\nLocation: /\r\nConnection: close\r\nContent-Length: ten\r\n\r\n"), "redirects"
    ),
    "moved with an endless body": (
        endless(b"HTTP/1.1 302 Found\r\nLocation: file:///x\r\n\r\n", b"x" * 65536), "bad_url"
    ),
    "moved with a body that drips": (
        drip(b"x" * 5000, 0.02, b"HTTP/1.1 302 Found\r\nLocation: file:///x\r\nContent-Length: 5000\r\n\r\n"), "bad_url"
    ),
}  # fmt: skip


def collected(
    urls: list[str], folder: Path, patience: Patience | None = None, seconds: float = 1.5
) -> list[dict[str, Any]]:
    """The statuses of some addresses, as rows of one part."""
    folder.mkdir(parents=True, exist_ok=True)
    column = UrlColumn("u", max_bytes=10**6, max_seconds=seconds)
    given = patience or Patience(attempts=2, first_wait=0.01, longest_wait=1.0, connect=0.5, read=0.4)
    web = Web(("127.0.0.1", "localhost"), collect.patience(given, column))
    collect.collect([Row("f", n, url, None) for n, url in enumerate(urls)], folder, 0, column, web, Crowd())
    web.close()
    return pq.read_table(folder / "status-00000.parquet").to_pylist()


@pytest.mark.parametrize("case", CASES)
def test_what_servers_do_is_a_status_in_bounded_time(case: str, tmp_path: Path) -> None:
    answer, reason = CASES[case]
    with raw(answer) as port:
        began = time.monotonic()
        (row,) = collected([f"http://127.0.0.1:{port}/a.png"], tmp_path)
        seconds = time.monotonic() - began
    assert (row["reason"], row["status"]) == (reason, "failed" if reason else "ok"), row["detail"]
    assert seconds < 4.0
    if reason is None:
        assert (tmp_path / "images-00000.pack").read_bytes() == PICTURE
    else:
        assert row["detail"] and len(row["detail"]) < 300 and row["pack"] is None


def test_a_host_that_never_answers_costs_a_few_tries(tmp_path: Path) -> None:
    """Fifty addresses: a few are tried, one more in the end; the rows read all the same."""
    asked: list[float] = []

    def silent(connection: socket.socket) -> None:
        asked.append(time.monotonic())
        time.sleep(5)

    with raw(silent) as dead, raw(reply(sized(PICTURE))) as live:
        down = [f"http://localhost:{dead}/{n}.png" for n in range(50)]
        up = [f"http://127.0.0.1:{live}/{n}.png" for n in range(20)]
        began = time.monotonic()
        rows = collected([url for pair in zip(down, up, strict=False) for url in pair] + down[20:], tmp_path)
        assert time.monotonic() - began < 4.0
    # four are under way when the first two turn out silent and are followed by two more; then the last try
    assert len(asked) <= 4 + 2 + 1
    assert [r["reason"] for r in rows if r["url"] in up] == [None] * 20
    assert {(r["reason"], r["detail"]) for r in rows if r["url"] in down} == {
        ("host_down", "localhost: gave no sign of life 3 times in a row")
    }
    assert "host_down" in HEALING


def test_a_host_that_comes_back_is_asked_for_the_rest(tmp_path: Path) -> None:
    """Silent at first; when the other host's slow addresses are done, the last try finds it back, for all its rows."""
    began, silences = time.monotonic(), []

    def recovers(connection: socket.socket) -> None:
        if time.monotonic() - began < 1.2:
            silences.append(True)
            time.sleep(5)
        connection.sendall(sized(PICTURE))

    def slow(connection: socket.socket) -> None:
        time.sleep(0.3)
        connection.sendall(sized(PICTURE))

    with raw(recovers) as port, raw(slow) as other:
        first = [f"http://127.0.0.1:{port}/{n}.png" for n in range(40)]
        busy = [f"http://localhost:{other}/{n}.png" for n in range(24)]
        rows = collected([*first, *busy], tmp_path, Patience(attempts=1, connect=0.5, read=0.4))
    assert silences and {r["reason"] for r in rows} == {None}


def test_a_closed_port_and_a_dead_redirect(tmp_path: Path) -> None:
    """A host whose port is closed is down; one that answers with redirects to it is not."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        closed = bound.getsockname()[1]
    with raw(moved(b"http://127.0.0.1:%d/" % closed)) as port:
        down, forward = f"http://127.0.0.1:{closed}/", f"http://localhost:{port}/"
        rows = collected([f"{base}{n}.png" for n in range(12) for base in (down, forward)], tmp_path)
    assert {r["reason"] for r in rows if r["url"].startswith(down)} == {"host_down"}
    assert {r["reason"] for r in rows if r["url"].startswith(forward)} == {"unreachable"}


def test_a_name_server_that_hangs_costs_its_rows_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, let_go, asked = socket.getaddrinfo, threading.Event(), []

    def hanging(host: str, *rest: object, **more: object) -> object:
        asked.append(host)
        if host.endswith(".example"):
            let_go.wait(30)
        return real("127.0.0.1" if host.endswith(".example") else host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    with raw(reply(sized(PICTURE))) as port:
        lost = [f"http://{n}.example/a.png" for n in range(8)]
        good = [f"http://localhost:{port}/{n}.png" for n in range(30)]
        began = time.monotonic()
        rows = collected([*lost, *good], tmp_path, Patience(attempts=1, connect=0.3, read=1.0))
        assert time.monotonic() - began < 3.0
    let_go.set()
    assert [r["reason"] for r in rows] == ["unresolved"] * 8 + [None] * 30
    # an address that was looked up is remembered: only those who asked at the same time looked it up as well
    assert asked.count("localhost") <= Crowd().per_host


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("{base}/a b\n\rHost: x\x00é.png?q=ü#f", None),
        ("{base}/" + "x" * 60_000, None),
        ("{base}?q", None),
        ("http://127.0.0.1:0/", "unreachable"),
        ("http://a..b/", "unresolved"),
        ("http://[fe80::1%25eth0]/", "address_refused"),
        (" {base}/", "bad_url"),
        ("data:image/png;base64,xx", "bad_url"),
        ("http://8.8.8.8@127.0.0.1/", "bad_url"),
        ("http://\u2460/", "bad_url"),
    ],
)
def test_odd_addresses_are_asked_or_refused(url: str, reason: str | None, tmp_path: Path) -> None:
    with raw(reply(sized(PICTURE))) as port:
        (row,) = collected([url.replace("{base}", f"http://127.0.0.1:{port}")], tmp_path)
    assert row["reason"] == reason, row["detail"]


def test_half_a_character_is_no_address() -> None:
    (row,) = collect.rows([(0, {"u": "http://127.0.0.1/\ud800.png"})], "f", UrlColumn("u"))
    assert row.url is None
