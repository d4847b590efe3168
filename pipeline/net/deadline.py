"""Connections whose answers end at a deadline, however slowly their bytes drip.

A socket's timeout begins anew with every byte, so a server that sends one a second, in its headers or its body, could
hold a worker for days. Inside `until(deadline)` a request is answered by a reader that gives the socket no more than
what is left of the time. urllib3's pools make these connections in place of their own.

A server may close a kept connection just as the next request is sent on it. That says nothing about the server, so it
is told apart (`Stale`), and the request goes out again on another connection.
"""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import urllib3.connection

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def until(deadline: float | None) -> Iterator[None]:
    """Answers that begin inside end by then (of time.monotonic), with the TimeoutError of a socket."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


class _Reader(io.RawIOBase):
    """What comes from a socket, until the deadline."""

    def __init__(self, raw: io.RawIOBase, socket: Any, deadline: float) -> None:
        self._raw, self._socket, self._deadline = raw, socket, deadline
        self._patience = socket.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline is over")
        self._socket.settimeout(left if self._patience is None else min(left, self._patience))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: Any, *rest: Any, **more: Any) -> None:
        super().__init__(sock, *rest, **more)
        deadline = _deadline.get()
        if deadline is not None:
            self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock, deadline))


class Stale(ConnectionError):
    """A connection that had answered before was closed before it answered again."""


class Connection(urllib3.connection.HTTPConnection):
    """http, and what https has in common with it."""

    response_class = _Answer
    _answered = False

    def connect(self) -> None:
        self._answered = False
        super().connect()

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        try:
            answer = super().getresponse()
        except ConnectionError as error:
            if self._answered:
                raise Stale from error
            raise
        self._answered = True
        return answer


class SecureConnection(Connection, urllib3.connection.HTTPSConnection):
    """https"""
