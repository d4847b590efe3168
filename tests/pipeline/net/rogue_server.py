"""A server that means no good: every answer is the bytes that a test gives it, headers and all.

A script maps a path (without its query) to a function (number of this request to the path, its headers) -> pieces of
the answer; a float among the pieces is a pause in seconds. The connection is closed after each answer.
"""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Pieces = Iterable[bytes | float]
Script = Callable[[int, Mapping[str, str]], Pieces]


@dataclass
class Rogue:
    """What it answers, and what it was asked: (path, headers) of each request."""

    script: dict[str, Script] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def answer(status: int, headers: Mapping[str, object] | None = None, body: bytes = b"") -> Pieces:
    """An answer as it should be, unless `headers` say otherwise; None leaves a header out."""
    all_headers = {"Content-Length": len(body), "Connection": "close", **(headers or {})}
    lines = [f"{name}: {value}\r\n" for name, value in all_headers.items() if value is not None]
    return [f"HTTP/1.1 {status} X\r\n{''.join(lines)}\r\n".encode("latin-1"), body]


def as_json(value: Any, headers: Mapping[str, object] | None = None) -> Pieces:
    return answer(200, headers, json.dumps(value).encode())


@contextmanager
def misbehaving(rogue: Rogue) -> Iterator[Rogue]:
    """The server answers inside."""
    times: Counter[str] = Counter()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline().decode("latin-1").split()
            lines = iter(lambda: self.rfile.readline().decode("latin-1").strip(), "")
            headers = dict(one.split(": ", 1) for one in lines)
            if len(line) != 3:
                return
            path = line[1].split("?")[0]
            rogue.asked.append((line[1], headers))
            script = rogue.script.get(path, lambda *_: answer(404))
            times[path] += 1
            try:
                for piece in script(times[path] - 1, headers):
                    time.sleep(piece) if isinstance(piece, float) else self.wfile.write(piece)
            except OSError:
                pass  # the client has had enough

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        rogue.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield rogue
        finally:
            server.shutdown()
