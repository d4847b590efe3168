"""A Hub on loopback that takes datasets or models: repositories, the preupload question, LFS batches with PUT, commits.

What `huggingface_hub` says to huggingface.co when it uploads; a commit must name the one that it follows, which
there is left to the client. `log` has every request; a fault (a status, or "cut") for a path is used up by the
request that meets it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.pipeline.net.hub_server import blob_sha1

TOKEN = "hf_loopbackSecret"
_LARGE = (".parquet", ".safetensors")


@dataclass
class TakingHub:
    """`branches`: name -> files by path; `objects`: what LFS holds by sha256; `faults`: (part of a path, status)."""

    port: int = 0
    kind: str = "dataset"
    repo: str = ""
    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    faults: list[tuple[str, int | str]] = field(default_factory=list)
    commits: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def place(self) -> str:
        """What stands before a repository in addresses."""
        return "/datasets/" if self.kind == "dataset" else "/"

    def puts(self) -> int:
        return sum(method == "PUT" for method, _ in self.log)

    def head(self, branch: str) -> str:
        return hashlib.sha1(repr((self.commits, branch)).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: TakingHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def _route(self, method: str) -> None:
        path, hub = unquote(urlsplit(self.path).path), self.hub
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.log.append((method, path))
        for fault in hub.faults:
            if fault[0] in f"{method} {path}":
                hub.faults.remove(fault)
                if fault[1] == "cut":
                    self.close_connection = True
                    return
                return self._answer(int(fault[1]), {"error": "refused"}, {"X-Error-Message": "refused by rule"})
        if method == "PUT":  # to the bucket, which asks for no token
            return self._put(path.rpartition("/")[2], body)
        if path != "/api/agent-harnesses" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid credentials"})
        name = re.escape(hub.repo)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if path == f"{hub.place}{hub.repo}.git/info/lfs/objects/batch":
            return self._batch(json.loads(body))
        if path == "/verify":
            return self._verify(json.loads(body))
        if match := re.fullmatch(f"/api/{hub.kind}s/{name}(?:/(revision|tree|preupload|commit|branch)/([^/]+))?", path):
            return self._repository(match[1] or "revision", match[2] or "main", body)
        self._answer(404, {"error": "not found"}, {"X-Error-Code": "RepoNotFound"})

    def _create(self, asked: dict[str, Any]) -> None:
        hub, name = self.hub, f"{asked.get('organization', 'acme')}/{asked['name']}"
        if hub.repo == name:
            return self._answer(409, {"error": "exists", "url": f"{hub.endpoint}{hub.place}{name}"})
        hub.repo, hub.private = name, asked.get("visibility") == "private"
        hub.branches = {"main": {".gitattributes": b"*.x lfs"}}
        self._answer(200, {"url": f"{hub.endpoint}{hub.place}{name}", "name": name, "id": name})

    def _repository(self, what: str, revision: str, body: bytes) -> None:
        hub = self.hub
        branch = next((name for name in hub.branches if revision in (name, hub.head(name))), None)
        if what == "branch":
            if revision in hub.branches:
                return self._answer(409, {"error": "exists"})
            hub.branches[revision] = dict(hub.branches["main"])
            return self._answer(200, {})
        if branch is None:
            return self._answer(404, {"error": "no"}, {"X-Error-Code": "RevisionNotFound"})
        if what == "revision":
            return self._answer(200, {"id": hub.repo, "sha": hub.head(branch), "private": hub.private, "gated": False})
        if what == "tree":
            return self._answer(200, [_entry(path, data) for path, data in sorted(hub.branches[branch].items())])
        if what == "preupload":
            files = [_mode(file["path"]) for file in json.loads(body)["files"]]
            return self._answer(200, {"files": files, "commitOid": hub.head(branch)})
        self._commit(branch, [json.loads(line) for line in body.splitlines()])

    def _commit(self, branch: str, lines: list[dict[str, Any]]) -> None:
        hub, files = self.hub, dict(self.hub.branches[branch])
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") != hub.head(branch):
                return self._answer(412, {"error": "the branch has moved"})
            if line["key"] == "lfsFile":
                files[value["path"]] = hub.objects[value["oid"]]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        hub.branches[branch], hub.commits = files, hub.commits + 1
        url = f"{hub.endpoint}{hub.place}{hub.repo}/commit/{hub.head(branch)}"
        self._answer(200, {"success": True, "commitOid": hub.head(branch), "commitUrl": url})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for one in asked["objects"]:
            if one["oid"] not in self.hub.objects:
                actions = {name: {"href": f"{self.hub.endpoint}{place}"} for name, place in _places(one["oid"])}
                objects.append({**one, "actions": actions})
            else:
                objects.append(one)
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _put(self, oid: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != oid:
            return self._answer(400, {"error": "other bytes"})
        self.hub.objects[oid] = data
        self._answer(200, {})

    def _verify(self, asked: dict[str, Any]) -> None:
        whole = len(self.hub.objects.get(asked["oid"], b"")) == asked["size"]
        self._answer(200 if whole else 404, {})

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        own = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        for name, text in {**own, **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


def _places(oid: str) -> list[tuple[str, str]]:
    return [("upload", f"/bucket/{oid}"), ("verify", "/verify")]


def _mode(path: str) -> dict[str, Any]:
    return {"path": path, "uploadMode": "lfs" if path.endswith(_LARGE) else "regular", "shouldIgnore": False}


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_sha1(data)}
    if path.endswith(_LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


@contextmanager
def taking(hub: TakingHub) -> Iterator[TakingHub]:
    """The hub answers inside."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads, server.block_on_close = True, False
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
