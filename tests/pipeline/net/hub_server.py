"""A Hub on loopback, of a dataset or a model: its info, paged tree, files with redirects to another host, faults.

Speaks what huggingface.co speaks to a client that reads datasets. The files of Git are answered after a relative 307,
those of LFS after a 302 from `127.0.0.1` to `localhost`, which is another host to every client. A fault is used up by
the request that meets it, so "503 once" is one entry; `log` says what was asked and how many bytes went out.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS_FROM = 1000  # bytes from which a file is kept in LFS


@dataclass(frozen=True)
class Fault:
    """`kind`: cut or stall after `at` bytes, status `at`, redirect to `text`, ignore_range, wrong, bare;

    slow and drip wait `text` seconds before the answer, or between its bytes.
    """

    kind: str
    at: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""


@dataclass
class Request:
    """One line of the log."""

    host: str
    path: str
    range: str | None
    authorized: bool
    if_range: str | None = None
    status: int = 0
    sent: int = 0


@dataclass
class FakeHub:
    """Datasets by name -> commits by sha -> files by path; branches name commits."""

    port: int = 0
    page: int = 1000
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    log: list[Request] = field(default_factory=list)
    after_info: Any = None
    down: int = 0  # a status: every request for a file is answered with it
    dataset: str = "acme/pictures"
    kind: str = "datasets"  # or models, whose files lie at the top
    links: str = ""  # what a mirror that rewrites nothing has in its `Link: next`

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Add a commit and move a branch to it; its sha."""
        sha = hashlib.sha1(repr(sorted((name, _sha256(data)) for name, data in files.items())).encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.branches[branch] = sha
        return sha

    def fault(self, path: str, *faults: Fault) -> None:
        self.faults.setdefault(path, []).extend(faults)

    def next_fault(self, path: str) -> Fault | None:
        waiting = self.faults.get(path)
        return waiting.pop(0) if waiting else None

    def sent(self, path: str) -> int:
        """How many bytes of a file's content went out, redirects left out."""
        return sum(r.sent for r in self.log if r.status in (200, 206) and r.path.endswith("/" + quote(path)))


@functools.lru_cache(maxsize=4096)
def _sha256(data: bytes) -> str:
    """Hashed once: a benchmark must not measure its server."""
    return hashlib.sha256(data).hexdigest()


def blob_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes: 40 ms each otherwise
    hub: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        self.request_log = Request(
            self.headers.get("Host", ""),
            split.path,
            self.headers.get("Range"),
            "Authorization" in self.headers,
            self.headers.get("If-Range"),
        )
        self.hub.log.append(self.request_log)
        try:
            self._route(split.path, parse_qs(split.query))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET

    def _route(self, path: str, query: dict[str, list[str]]) -> None:
        name = re.escape(self.hub.dataset)
        kind, top = self.hub.kind, "/datasets" if self.hub.kind == "datasets" else ""
        if path.startswith(f"/api/{kind}/"):
            if fault := self.hub.next_fault("api"):
                return self._answer(fault.at, b"", fault.headers)
            if self.hub.gated and self._token() != self.hub.token:
                return self._error(403, "GatedRepo")
        if match := re.fullmatch(f"/api/{kind}/{name}/revision/(.+)", path):
            return self._info(unquote(match[1]))
        if match := re.fullmatch(f"/api/{kind}/{name}/tree/([^/]+)", path):
            return self._tree(match[1], int(query.get("cursor", ["0"])[0]))
        if match := re.fullmatch(f"{top}/{name}/resolve/([^/]+)/(.+)", path):
            return self._resolve(match[1], unquote(match[2]))
        if match := re.fullmatch("/(cdn|api/resolve-cache)/([0-9a-f]{40})/(.+)", path):
            return self._content(match[2], unquote(match[3]))
        if match := re.fullmatch("/plain/(.+)", path):
            return self._content(self.hub.branches["main"], unquote(match[1]))
        self._error(401, "RepoNotFound")

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _info(self, revision: str) -> None:
        sha = self.hub.branches.get(revision, revision)
        if sha not in self.hub.commits:
            return self._error(404, "RevisionNotFound")
        self._json({"id": self.hub.dataset, "sha": sha, "private": False, "gated": self.hub.gated})
        if self.hub.after_info:
            self.hub.after_info()

    def _tree(self, sha: str, start: int) -> None:
        if sha not in self.hub.commits:
            return self._error(404, "RevisionNotFound")
        files = self.hub.commits[sha]
        entries = [_entry(path, files[path]) for path in sorted(files)]
        entries[0:0] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "folder"}]
        more = start + self.hub.page < len(entries)
        tree = (self.hub.links or self.hub.endpoint) + urlsplit(self.path).path
        following = f"{tree}?recursive=true&cursor={start + self.hub.page}"
        link = {"Link": f'<{following}>; rel="next"'} if more else {}
        self._json(entries[start : start + self.hub.page], link)

    def _resolve(self, revision: str, path: str) -> None:
        if self.hub.gated and self._token() != self.hub.token:
            return self._error(403, "GatedRepo")
        sha = self.hub.branches.get(revision, revision)
        data = self.hub.commits.get(sha, {}).get(path)
        if data is None:
            return self._error(404, "EntryNotFound", {"X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha, "X-Linked-Size": str(len(data))}
        if len(data) < LFS_FROM:
            place = f"/api/resolve-cache/{sha}/{quote(path)}"
            return self._answer(307, b"moved", {**headers, "Location": place, "ETag": f'"{blob_sha1(data)}"'})
        place = f"http://localhost:{self.hub.port}/cdn/{sha}/{quote(path)}?Signature=secret"
        linked = {"X-Linked-ETag": f'"{_sha256(data)}"'}
        self._answer(302, b"moved", {**headers, **linked, "Location": place})

    def _content(self, sha: str, path: str) -> None:
        data = self.hub.commits[sha].get(path)
        if data is None:
            return self._error(404, "EntryNotFound")
        fault = self.hub.next_fault(path) or (Fault("status", self.hub.down) if self.hub.down else Fault("none"))
        etag = f'"{_sha256(data)[:32]}"'
        if fault.kind == "status":
            return self._answer(fault.at, b"trouble", fault.headers)
        if fault.kind == "redirect":
            return self._answer(302, b"", {"Location": fault.text})
        if fault.kind == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = {} if fault.kind == "bare" else {"ETag": etag, "Accept-Ranges": "bytes", "X-Repo-Commit": sha}
        start = self._start(len(data), etag) if fault.kind not in ("ignore_range", "bare") else 0
        if start >= len(data) > 0:
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if start else 200, memoryview(data)[start:], headers, fault)

    def _start(self, size: int, etag: str) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match and self.headers.get("If-Range", etag) == etag else 0

    def _send(self, status: int, data: bytes | memoryview, headers: Mapping[str, str], fault: Fault) -> None:
        self.request_log.status = status
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.kind == "slow":
            time.sleep(float(fault.text))
        if fault.kind == "drip":
            return self._drip(data, float(fault.text))
        most = fault.at if fault.kind in ("cut", "stall") else len(data)
        for begin in range(0, min(most, len(data)), 1 << 18):
            piece = data[begin : min(begin + (1 << 18), most)]
            self.wfile.write(piece)
            self.request_log.sent += len(piece)
        if most < len(data):
            self.wfile.flush()
            if fault.kind == "stall":
                time.sleep(float(fault.text or 30))
            self.close_connection = True

    def _drip(self, data: bytes | memoryview, seconds: float) -> None:
        for place in range(len(data)):
            self.wfile.write(data[place : place + 1])
            self.wfile.flush()
            self.request_log.sent += 1
            time.sleep(seconds)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._send(status, body, headers, Fault("none"))

    def _json(self, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, **(headers or {})})


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "size": len(data), "path": path}
    if len(data) < LFS_FROM:
        entry["oid"] = blob_sha1(data)
    else:
        sha = _sha256(data)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize {len(data)}\n".encode()
        entry |= {"oid": blob_sha1(pointer), "lfs": {"oid": sha, "size": len(data), "pointerSize": len(pointer)}}
    return entry


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what the tests are about; anything else is a fault of this server."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def serving(hub: FakeHub, tls: ssl.SSLContext | None = None) -> Iterator[FakeHub]:
    """The hub answers inside."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
