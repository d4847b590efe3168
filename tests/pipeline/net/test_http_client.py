"""One request: which connection it goes over, what it says, whose silence a silence is."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from pipeline.net.answer import refusal
from pipeline.net.http_client import Web
from pipeline.net.patience import Patience
from pipeline.net.trouble import Trouble
from pipeline.net.web_address import origin, parsed
from tests.pipeline.net.rogue_server import Pieces, Rogue, answer, misbehaving

QUICK = Patience(attempts=1, connect=2.0, read=2.0)
# (number of the connection, number of the request on it) -> pieces of the answer; none: the connection is closed
Talk = Callable[[int, int], Pieces | None]


@contextmanager
def talking(talk: Talk) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """A server that keeps its connections: its address, and what it was asked."""
    asked: list[tuple[int, int]] = []
    connections: list[object] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            connections.append(self)
            number, request = len(connections) - 1, 0
            while self.rfile.readline().strip():
                while self.rfile.readline().strip():
                    pass
                asked.append((number, request))
                said = talk(number, request)
                if said is None:
                    return
                for piece in said:
                    time.sleep(piece) if isinstance(piece, float) else self.wfile.write(piece)
                request += 1

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()


def kept(body: bytes = b"hello", pause: float = 0.0) -> Pieces:
    return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), pause, body]


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web(["127.0.0.1", "localhost"], QUICK)
    yield web
    web.close()


def body(web: Web, url: str) -> bytes:
    with web.open(url) as found:
        return found.response.read()


def test_a_connection_whose_answer_was_read_is_used_again(web: Web) -> None:
    with talking(lambda *_: kept()) as (endpoint, asked):
        assert [body(web, f"{endpoint}/{k}") for k in range(3)] == [b"hello"] * 3
    assert asked == [(0, 0), (0, 1), (0, 2)]


def test_a_connection_whose_answer_was_not_read_is_not_used_again(web: Web) -> None:
    """It would take the rest, when that comes, for the next answer; where there is no rest it may be used."""
    with talking(lambda *_: kept(pause=0.3)) as (endpoint, asked):
        with web.open(f"{endpoint}/a"):
            pass
        assert body(web, f"{endpoint}/b") == b"hello"
    assert asked == [(0, 0), (1, 0)]
    with talking(lambda *_: kept(b"")) as (endpoint, asked):
        for _ in range(2):
            with web.open(endpoint):
                pass
    assert asked == [(0, 0), (0, 1)]


def test_a_kept_connection_that_was_closed_meanwhile_is_no_failure(web: Web) -> None:
    """The server closes it just as the next request comes; a new connection that is closed at once is a failure."""
    with talking(lambda connection, request: None if request or connection == 2 else kept()) as (endpoint, asked):
        assert body(web, f"{endpoint}/a") == b"hello"
        assert body(web, f"{endpoint}/b") == b"hello"
        assert asked == [(0, 0), (0, 1), (1, 0)]
        with pytest.raises(Trouble, match="cut_short"):
            body(web, f"{endpoint}/c")
        assert asked[3:] == [(1, 1), (2, 0)]


def test_a_connection_is_kept_for_the_name_it_was_made_for(web: Web) -> None:
    with talking(lambda *_: kept()) as (endpoint, asked):
        body(web, endpoint)
        body(web, endpoint.replace("127.0.0.1", "localhost"))
    assert asked == [(0, 0), (1, 0)]


def test_no_answer_is_asked_for_compressed_and_none_is_unpacked(web: Web) -> None:
    with misbehaving(Rogue({"/": lambda *_: answer(200, {"Content-Encoding": "gzip"}, b"as it came")})) as rogue:
        assert body(web, f"{rogue.endpoint}/") == b"as it came"
        assert rogue.asked[0][1]["Accept-Encoding"] == "identity"


def test_the_next_address_is_tried_where_the_first_does_not_answer(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def two(host: Any, *rest: Any, **more: Any) -> Any:
        places = ("127.0.0.9", "127.0.0.1") if host == "localhost" else (host,)
        return [found for place in places for found in real(place, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    with talking(lambda *_: kept()) as (endpoint, _):
        assert body(web, endpoint.replace("127.0.0.1", "localhost")) == b"hello"


@pytest.mark.parametrize("spelling", ["LocalHost", "localhost.", "LOCALHOST."])
def test_an_allowed_host_may_be_spelled_otherwise(spelling: str) -> None:
    web = Web([spelling], QUICK)
    with talking(lambda *_: kept()) as (endpoint, _):
        assert body(web, endpoint.replace("127.0.0.1", "localhost")) == b"hello"
    web.close()


def test_the_silence_of_a_redirect_s_target_is_not_the_host_s(web: Web) -> None:
    dead = "http://127.0.0.1:1/x"
    with misbehaving(Rogue({"/f": lambda *_: answer(302, {"Location": dead}), "/s": lambda *_: [4.0]})) as rogue:
        silences = {}
        for url in (dead, f"{rogue.endpoint}/f", f"{rogue.endpoint}/s", "http://nowhere.invalid/x"):
            with pytest.raises(Trouble) as trouble:
                body(web, url)
            silences[url] = trouble.value.failed.silent
    assert list(silences.values()) == [True, False, True, True]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
def test_which_statuses_lead_elsewhere(status: int, web: Web) -> None:
    script = {"/f": lambda *_: answer(status, {"Location": "/g"}), "/g": lambda *_: answer(200)}
    with misbehaving(Rogue(script)) as rogue, web.open(f"{rogue.endpoint}/f") as found:
        assert found.status == (status if status in (300, 304, 305) else 200)


def test_whom_a_token_is_meant_for() -> None:
    home = origin(parsed("https://Hub.example/api?x=1"))
    assert home == origin(parsed("https://hub.example:443/other"))
    for other in (
        "http://hub.example/",
        "http://hub.example:443/",
        "https://hub.example:8443/",
        "https://cdn.hub.example/",
    ):
        assert origin(parsed(other)) != home


def test_an_address_is_shown_without_what_is_secret_or_would_be_obeyed(web: Web) -> None:
    path = "\x1b[2J\nerror: é" + "x" * 1000
    with misbehaving(Rogue()) as rogue, web.open(f"{rogue.endpoint}/{path}?Signature=secret#secret") as found:
        detail = refusal(found).detail
    assert detail.startswith(f"{rogue.endpoint}/") and detail.endswith("HTTP 404")
    assert detail.isascii() and detail.isprintable() and "secret" not in detail and len(detail) < 250
    with pytest.raises(Trouble, match=r"bad_url: ftp://[.]/x: "):
        body(web, "ftp://user:secret@./x")


def test_a_deadline_ends_the_search_for_a_name_and_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    web = Web(["127.0.0.1", "slow.example"], Patience(connect=30.0))
    real = socket.getaddrinfo

    def slow(host: Any, *rest: Any, **more: Any) -> Any:
        time.sleep(20.0 if host == "slow.example" else 0.0)
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # fill the queue of a server that accepts nobody
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        for host, reason in (("slow.example", "unresolved"), ("127.0.0.1", "too_slow")):
            started = time.monotonic()
            with (
                pytest.raises(Trouble, match=reason),
                web.open(f"http://{host}:{server.getsockname()[1]}/", deadline=started + 0.4),
            ):
                pass
            assert time.monotonic() - started < 8


def test_the_body_of_a_redirect_is_not_waited_for(web: Web) -> None:
    """One that drips byte by byte, its length stated or not."""
    for length in (10_000_000, None):
        drip = [*answer(302, {"Location": "/g", "Content-Length": length}), *[b"x", 0.1] * 100]
        script = {"/f": lambda *_, drip=drip: drip, "/g": lambda *_: answer(200, {}, b"there")}
        with misbehaving(Rogue(script)) as rogue:
            started = time.monotonic()
            assert body(web, f"{rogue.endpoint}/f") == b"there"
            assert time.monotonic() - started < 5
