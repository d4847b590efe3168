"""One request over HTTP(S): checked addresses, redirects by hand, troubles as values.

`Web.open` follows redirects itself. Every hop's host is resolved and checked (addresses.py), the connection goes to the
checked address while TLS and the Host header keep the name, and a token goes only to the origin it is meant for.
Proxies from the environment are not used: behind one nobody could say which address is asked. Errors name a URL without
its query, because signed addresses carry their key there.
"""

from __future__ import annotations

import dataclasses
import email.utils
import hashlib
import os
import re
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urljoin

import certifi
import urllib3
from urllib3 import exceptions as errors
from urllib3.util import Timeout, Url, parse_url

from pipeline.net import public_address as addresses
from pipeline.net.deadline import Connection, SecureConnection, Stale, until

_MOVED = (301, 302, 303, 307, 308)
_HEALS = (408, 425, 429, 500, 502, 503, 504)
_SILENT = (errors.TimeoutError, errors.NewConnectionError, addresses.Unresolved)
_MOST_HOPS = 10
_MOST_POOLS = 64
_MOST_KEPT = 64  # idle connections to one address; there are never more than requests at a time


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server. `attempts`: in a row without progress; waits double from `first_wait` seconds.

    A server that asks for more than `longest_wait` (Retry-After) is left for a later run. `connect` and `read`: seconds
    until a connection stands, and without a single byte.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 310.0
    connect: float = 10.0
    read: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.first_wait, self.longest_wait) < 0 or min(self.connect, self.read) <= 0:
            raise ValueError(f"wanted attempts >= 1, waits >= 0, connect and read > 0; got {self}")


@dataclass(frozen=True)
class Failed:
    """Why something could not be fetched. `may_heal`: another time it may be there. `silent`: the address's host
    neither took the connection nor began to answer (the host of a redirect's target does not count)."""

    reason: str
    detail: str
    may_heal: bool
    wait: float | None = None
    status: int | None = None
    code: str = ""
    silent: bool = False


class Trouble(Exception):
    """A request that failed, inside this package; it ends as the `Failed` it carries."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(f"{failed.reason}: {failed.detail}")
        self.failed = failed


@dataclass(frozen=True)
class Answer:
    """A response that is not a redirect, its body unread."""

    response: urllib3.BaseHTTPResponse
    url: str
    status: int
    headers: Mapping[str, str]
    hops: int


class Web:
    """Connections of one process, kept for reuse by checked address. Threads may share it."""

    def __init__(self, allowed: Iterable[str] = (), patience: Patience | None = None) -> None:
        self.allowed = frozenset(host.rstrip(".").lower() for host in allowed)
        self.patience = patience or Patience()
        self._names = addresses.Names(self.allowed, self.patience.connect)
        self._pools: dict[tuple[str, str, int, str], urllib3.HTTPConnectionPool] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    @contextmanager
    def open(
        self, url: str, headers: Mapping[str, str] | None = None, token: str | None = None,
        deadline: float | None = None,
    ) -> Iterator[Answer]:  # fmt: skip
        """The answer at the end of the redirects, whatever its status. Raises Trouble, also for a body read inside.

        All of it ends by `deadline` (of time.monotonic).
        """
        try:
            answer = self._follow(url, headers or {}, token, deadline)
            try:
                yield answer
            finally:
                answer.response.close() if _unread(answer.response) else answer.response.release_conn()
        except errors.HTTPError as error:
            raise Trouble(_failure(error, url, self.patience, deadline)) from None

    def close(self) -> None:
        """Close the connections that wait for another request."""
        while self._pools:
            self._pools.popitem()[1].close()

    def _follow(self, url: str, headers: Mapping[str, str], token: str | None, deadline: float | None) -> Answer:
        parsed = _parsed(url)
        origin = _origin(parsed)
        for hops in range(_MOST_HOPS + 1):
            own = {"Authorization": f"Bearer {token}"} if token and _origin(parsed) == origin else {}
            try:
                with until(deadline):
                    response = self._ask(parsed, {**headers, **own}, deadline)
            except (errors.HTTPError, addresses.Refused, addresses.Unresolved) as error:
                silent = hops == 0 and isinstance(error, _SILENT)
                failed = _failure(error, url, self.patience, deadline)
                raise Trouble(dataclasses.replace(failed, silent=silent)) from None
            target = response.headers.get("Location")
            if response.status not in _MOVED or not target:
                return Answer(response, url, response.status, response.headers, hops)
            short = getattr(response, "length_remaining", None)
            response.close() if short is None or short > 65536 else response.drain_conn()
            url = _joined(url, target)
            parsed = _parsed(url)
        raise Trouble(Failed("redirects", f"{shown(url)}: more than {_MOST_HOPS} redirects", False))

    def _ask(self, url: Url, headers: Mapping[str, str], deadline: float | None) -> urllib3.BaseHTTPResponse:
        """Connect to the first checked address that answers."""
        host, port = _host(url), url.port or _PORTS[str(url.scheme)]
        found = self._names.find(host, port, _left(self.patience.connect, deadline))
        sent = {"Host": url.netloc or host, "Accept-Encoding": "identity", "User-Agent": "tessera/0.1", **headers}
        while True:
            timeout = Timeout(connect=_left(self.patience.connect, deadline), read=self.patience.read)
            try:
                pool = self._pool(str(url.scheme), found[0], port, host)
                return pool.urlopen(
                    "GET", url.request_uri, headers=sent, retries=False, redirect=False, assert_same_host=False,
                    preload_content=False, decode_content=False, timeout=timeout,
                )  # fmt: skip
            except (errors.NewConnectionError, errors.ConnectTimeoutError):
                found = found[1:]
                if not found:
                    self._names.forget(host)
                    raise
            except errors.ProtocolError as error:
                # each one is used up by this, and a new connection can't be stale
                if not isinstance(error.args[-1], Stale):
                    raise

    def _pool(self, scheme: str, address: str, port: int, host: str) -> urllib3.HTTPConnectionPool:
        key = (scheme, address, port, host)
        with self._lock:
            pool = self._pools.pop(key, None) or self._new_pool(scheme, address, port, host)
            self._pools[key] = pool  # the last one used stands last
            if len(self._pools) > _MOST_POOLS:
                # not closed: another thread may be about to use it; its connections close when nobody holds it
                del self._pools[next(iter(self._pools))]
        return pool

    def _new_pool(self, scheme: str, address: str, port: int, host: str) -> urllib3.HTTPConnectionPool:
        if scheme == "http":
            plain = urllib3.HTTPConnectionPool(address, port, maxsize=_MOST_KEPT)
            plain.ConnectionCls = Connection
            return plain
        self._tls = self._tls or _tls_context()
        secure = urllib3.HTTPSConnectionPool(
            address, port, maxsize=_MOST_KEPT, ssl_context=self._tls, server_hostname=host, assert_hostname=host
        )
        secure.ConnectionCls = SecureConnection
        return secure


class Attempts:
    """Failed attempts at one URL: whether to try again, after a wait that grows and is keyed by the URL."""

    def __init__(self, url: str, patience: Patience) -> None:
        self.url, self.patience, self.failed = url, patience, 0

    def again(self, failed: Failed, progress: bool = False, deadline: float | None = None) -> bool:
        """Wait and say yes, or say no. Progress since the last attempt starts the count anew."""
        self.failed = 1 if progress else self.failed + 1
        wait = self._wait() if failed.wait is None else failed.wait
        if not failed.may_heal or self.failed >= self.patience.attempts or wait > self.patience.longest_wait:
            return False
        if deadline is not None and time.monotonic() + wait >= deadline:
            return False
        time.sleep(wait)
        return True

    def _wait(self) -> float:
        """Doubles; the second half is spread by the URL, so that a thousand workers don't come back at once."""
        key = hashlib.sha256(f"{self.url} {self.failed}".encode()).digest()
        spread = 0.5 + 0.5 * int.from_bytes(key[:4], "big") / 2**32
        return min(self.patience.first_wait * 2.0 ** (self.failed - 1) * spread, self.patience.longest_wait)


def read(
    web: Web, url: str, token: str | None = None, most: int = 64 * 2**20, deadline: float | None = None,
    leave_silent: bool = False,
) -> tuple[bytes, Answer] | Failed:  # fmt: skip
    """A small body, with retries until `deadline` (of time.monotonic); `leave_silent`: none if the host is silent."""
    attempts = Attempts(url, web.patience)
    while True:
        try:
            with web.open(url, token=token, deadline=deadline) as answer:
                if answer.status != 200:
                    raise Trouble(refusal(answer))
                return _body(answer, most), answer
        except Trouble as trouble:
            left = leave_silent and trouble.failed.silent
            if left or not attempts.again(trouble.failed, deadline=deadline):
                return trouble.failed


def _body(answer: Answer, most: int) -> bytes:
    pieces, size = [], 0
    while piece := answer.response.read1(1 << 18):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise Trouble(Failed("too_large", f"{shown(answer.url)}: more than {most:,} bytes", False))
    return b"".join(pieces)


def refusal(answer: Answer) -> Failed:
    """What a status outside 2xx means."""
    status, code = answer.status, answer.headers.get("X-Error-Code", "")
    detail = f"{shown(answer.url)}: HTTP {status}" + (f" ({code})" if code.isalnum() else "")
    if status in _HEALS:
        reason = "rate_limited" if status == 429 else "server_error"
        return Failed(reason, detail, True, _asked_wait(answer.headers), status, code)
    if status in (401, 403):
        # behind a redirect a 403 is a signature that ran out: the next attempt gets a fresh one
        return Failed("forbidden", detail, answer.hops > 0 and status == 403, None, status, code)
    if status == 412:
        return Failed("changed", f"{detail}: another version than was listed", False, None, status, code)
    reason = "not_found" if status in (404, 410) else "refused"
    return Failed(reason, detail, False, None, status, code)


def shown(url: str) -> str:
    """A URL for people: without query, fragment and credentials, printable and short."""
    bare = re.sub(r"//[^/@]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])
    return ascii(bare)[1:-1][:200]


def number(text: str) -> int | None:
    """A size or a count of seconds as servers write it; none for what is no such number."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


_PORTS = {"http": 80, "https": 443}


def _parsed(url: str) -> Url:
    parsed = parse_url(url)
    if parsed.scheme not in _PORTS or not parsed.host:
        raise Trouble(Failed("bad_url", f"{shown(url)}: not an http or https address", False))
    if parsed.auth:
        raise Trouble(Failed("bad_url", f"{shown(url)}: carries a password", False))
    return parsed


def _joined(url: str, target: str) -> str:
    """Where a redirect leads to."""
    try:
        return urljoin(url, target)
    except ValueError:
        raise Trouble(Failed("bad_url", f"{shown(url)}: redirects to {shown(target)}", False)) from None


def _left(most: float, deadline: float | None) -> float:
    """Seconds to wait at most; a deadline that is over leaves next to none."""
    return most if deadline is None else min(most, max(deadline - time.monotonic(), 0.001))


def _host(url: Url) -> str:
    return (url.host or "").strip("[]")


def _origin(url: Url) -> tuple[str | None, str | None, int]:
    return url.scheme, url.host, url.port or _PORTS[str(url.scheme)]


def _unread(response: urllib3.BaseHTTPResponse) -> bool:
    """Whether bytes of the body are still to come: such a connection can't be used again."""
    left: int | None = getattr(response, "length_remaining", None)
    return left != 0


def _tls_context() -> ssl.SSLContext:
    """The system's certificates (a company's own stand there) and certifi's (a slim container has no others)."""
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    context.load_verify_locations(certifi.where())
    return context


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After (a number or a date) or of the Hub's `RateLimit: "api";r=0;t=55`, one added."""
    after = headers.get("Retry-After", "").strip()
    if (seconds := number(after)) is not None:
        return float(min(seconds, 10**6))
    if after:
        try:
            return max(email.utils.parsedate_to_datetime(after).timestamp() - time.time(), 0.0)
        except (ValueError, OverflowError):
            return None  # unreadable: our own waits
    limit = re.search(r"\br=0\s*;\s*t=([0-9]{1,6})\b", headers.get("RateLimit", ""))
    return float(limit.group(1)) + 1 if limit else None


def _failure(error: Exception, url: str, patience: Patience, deadline: float | None) -> Failed:
    """An exception of the HTTP library as a value; its own text is left out, for it may quote the whole address."""
    failed = _told(error, shown(url), patience)
    if failed.reason == "timeout" and deadline is not None and time.monotonic() >= deadline:
        return Failed("too_slow", f"{shown(url)}: not there in the time allowed", True)
    return failed


def _told(error: Exception, place: str, patience: Patience) -> Failed:
    if isinstance(error, addresses.Refused):
        return Failed("address_refused", str(error), False)
    if isinstance(error, addresses.Unresolved):
        return Failed("unresolved", str(error), True)
    if isinstance(error, errors.ConnectTimeoutError) and not isinstance(error, errors.NewConnectionError):
        return Failed("timeout", f"{place}: no connection after {patience.connect:g} s", True)
    if isinstance(error, errors.ReadTimeoutError):
        return Failed("timeout", f"{place}: no byte for {patience.read:g} s", True)
    if isinstance(error, errors.SSLError):
        return Failed("certificate", f"{place}: TLS failed ({type(error).__name__})", False)
    if isinstance(error, errors.LocationValueError):
        return Failed("bad_url", f"{place}: not an address", False)
    if isinstance(error, (errors.ProtocolError, errors.InvalidHeader)):
        return Failed("cut_short", f"{place}: the connection broke off, or what came was not HTTP", True)
    return Failed("unreachable", f"{place}: {type(error).__name__}", True)
