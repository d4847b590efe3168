"""One request over HTTP(S): checked addresses, redirects by hand, troubles as values.

`Web.open` follows redirects itself. Every hop's host is resolved and checked (public_address.py), the connection goes
to the checked address while TLS and the Host header keep the name, and a token goes only to the origin it is meant for.
Proxies from the environment are not used: behind one nobody could say which address is asked. Whether to ask again is
the business of whoever asks (retries.py).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import urllib3
from urllib3 import exceptions as errors
from urllib3.util import Timeout, Url

from pipeline.net.answer import Answer
from pipeline.net.connection_pools import Pools
from pipeline.net.deadline import Stale, until
from pipeline.net.patience import Patience
from pipeline.net.public_address import Names, Refused, Unresolved
from pipeline.net.trouble import Failed, Trouble, failure, shown
from pipeline.net.web_address import host, joined, origin, parsed, port

_MOVED = (301, 302, 303, 307, 308)
_SILENT = (errors.TimeoutError, errors.NewConnectionError, Unresolved)
_MOST_HOPS = 10


class Web:
    """Requests of one process. Threads may share it."""

    def __init__(self, allowed: Iterable[str] = (), patience: Patience | None = None) -> None:
        self.allowed = frozenset(name.rstrip(".").lower() for name in allowed)
        self.patience = patience or Patience()
        self._names = Names(self.allowed, self.patience.connect)
        self._pools = Pools()

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
            raise Trouble(failure(error, url, self.patience, deadline)) from None

    def close(self) -> None:
        """Close the connections that wait for another request."""
        self._pools.close()

    def _follow(self, url: str, headers: Mapping[str, str], token: str | None, deadline: float | None) -> Answer:
        place = parsed(url)
        home = origin(place)
        for hops in range(_MOST_HOPS + 1):
            own = {"Authorization": f"Bearer {token}"} if token and origin(place) == home else {}
            try:
                with until(deadline):
                    response = self._ask(place, {**headers, **own}, deadline)
            except (errors.HTTPError, Refused, Unresolved) as error:
                silent = hops == 0 and isinstance(error, _SILENT)
                failed = failure(error, url, self.patience, deadline)
                raise Trouble(dataclasses.replace(failed, silent=silent)) from None
            target = response.headers.get("Location")
            if response.status not in _MOVED or not target:
                return Answer(response, url, response.status, response.headers, hops)
            short = getattr(response, "length_remaining", None)
            response.close() if short is None or short > 65536 else response.drain_conn()
            url = joined(url, target)
            place = parsed(url)
        raise Trouble(Failed("redirects", f"{shown(url)}: more than {_MOST_HOPS} redirects", False))

    def _ask(self, url: Url, headers: Mapping[str, str], deadline: float | None) -> urllib3.BaseHTTPResponse:
        """Connect to the first checked address that answers."""
        name = host(url)
        found = self._names.find(name, port(url), _left(self.patience.connect, deadline))
        sent = {"Host": url.netloc or name, "Accept-Encoding": "identity", "User-Agent": "tessera/0.1", **headers}
        while True:
            timeout = Timeout(connect=_left(self.patience.connect, deadline), read=self.patience.read)
            try:
                pool = self._pools.get(str(url.scheme), found[0], port(url), name)
                return pool.urlopen(
                    "GET", url.request_uri, headers=sent, retries=False, redirect=False, assert_same_host=False,
                    preload_content=False, decode_content=False, timeout=timeout,
                )  # fmt: skip
            except (errors.NewConnectionError, errors.ConnectTimeoutError):
                found = found[1:]
                if not found:
                    self._names.forget(name)
                    raise
            except errors.ProtocolError as error:
                # each one is used up by this, and a new connection can't be stale
                if not isinstance(error.args[-1], Stale):
                    raise


def _left(most: float, deadline: float | None) -> float:
    """Seconds to wait at most; a deadline that is over leaves next to none."""
    return most if deadline is None else min(most, max(deadline - time.monotonic(), 0.001))


def _unread(response: urllib3.BaseHTTPResponse) -> bool:
    """Whether bytes of the body are still to come: such a connection can't be used again."""
    left: int | None = getattr(response, "length_remaining", None)
    return left != 0
