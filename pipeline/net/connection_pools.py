"""Connections kept for reuse by the address that was checked; TLS and certificates keep the name.

A pool belongs to a scheme, an address, a port and the name that led there, so a connection made for one name is never
used for another. Threads may share them.
"""

from __future__ import annotations

import os
import ssl
import threading

import certifi
import urllib3

from pipeline.net.deadline import Connection, SecureConnection

_MOST_POOLS = 64
_MOST_KEPT = 64  # idle connections to one address; there are never more than requests at a time


class Pools:
    """The connections of one process."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str, int, str], urllib3.HTTPConnectionPool] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    def get(self, scheme: str, address: str, port: int, host: str) -> urllib3.HTTPConnectionPool:
        """The pool of a checked address of a host."""
        key = (scheme, address, port, host)
        with self._lock:
            pool = self._pools.pop(key, None) or self._new(scheme, address, port, host)
            self._pools[key] = pool  # the last one used stands last
            if len(self._pools) > _MOST_POOLS:
                # not closed: another thread may be about to use it; its connections close when nobody holds it
                del self._pools[next(iter(self._pools))]
        return pool

    def close(self) -> None:
        """Close the connections that wait for another request."""
        while self._pools:
            self._pools.popitem()[1].close()

    def _new(self, scheme: str, address: str, port: int, host: str) -> urllib3.HTTPConnectionPool:
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


def _tls_context() -> ssl.SSLContext:
    """The system's certificates (a company's own stand there) and certifi's (a slim container has no others)."""
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    context.load_verify_locations(certifi.where())
    return context
