"""Fetch the images that a slice of rows names: many at a time, few from one host, each row with its status.

What an earlier run fetched, or learned for good (a missing page), is taken over from its pack and statuses; only rows
that may heal are asked again. The pack is written in the order of the rows, so the order of arrival leaves no trace.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.web import Failed, Patience, Web, read
from stages.collect import HEALING, STATUS
from stages.images import sniff
from stages.sources.remote import UrlColumn

# Images held in memory at a time, beside those being fetched
_AHEAD = 64


@dataclass(frozen=True)
class Crowd:
    """How many images at a time in one part, and from one host. Courtesy to hosts: they block who asks too much."""

    at_a_time: int = 16
    per_host: int = 4

    def __post_init__(self) -> None:
        if min(self.at_a_time, self.per_host) < 1:
            raise ValueError(f"at_a_time and per_host must be at least 1, got {self}")


@dataclass(frozen=True)
class Row:
    """One row of a slice: the address (none: the row has none) and the promised hash."""

    file: str
    row: int
    url: str | None
    sha256: str | None


Result = tuple[dict[str, Any], bytes | None]


def rows(records: Iterable[tuple[int, Any]], file: str, column: UrlColumn) -> list[Row]:
    """The addresses of a slice of records."""
    found = []
    for number, record in records:
        url, sha256 = (_text(record, name) for name in (column.column, column.sha256))
        found.append(Row(file, number, url, sha256.lower() if sha256 else None))
    return found


def collect(wanted: list[Row], folder: Path, number: int, column: UrlColumn, web: Web, crowd: Crowd) -> pa.Table:
    """Fetch what is missing, write the pack, and give STATUS; the caller writes that."""
    pack = f"images-{number:05d}.pack"
    status = folder / f"status-{number:05d}.parquet"
    known = _known(status, folder / pack)
    statuses: list[dict[str, Any]] = []

    def write(path: Path) -> None:
        offset = 0
        with path.open("wb") as stream:
            for entry, data in _fetched(wanted, known, folder / pack, column, web, crowd):
                place = {"pack": pack, "offset": offset} if data is not None else {"pack": None, "offset": None}
                statuses.append({**entry, **place})
                offset += stream.write(data or b"")

    storage.commit(folder / pack, write)
    return pa.Table.from_pylist(statuses, STATUS)


def _fetched(
    wanted: list[Row], known: Mapping[tuple[str, int], dict[str, Any]], pack: Path, column: UrlColumn, web: Web,
    crowd: Crowd,
) -> Iterator[Result]:  # fmt: skip
    """Status and bytes of each row, in order; at most _AHEAD of them wait in memory."""
    hosts = _Hosts(crowd.per_host)

    def one(row: Row) -> Result:
        entry = known.get((row.file, row.row))
        if entry is not None and entry["url"] == row.url and entry["reason"] not in HEALING:
            return entry, _from_pack(pack, entry)
        with hosts.turn(row.url or ""):
            return _fetch(row, column, web)

    with ThreadPoolExecutor(crowd.at_a_time) as pool:
        waiting = []
        for row in wanted:
            waiting.append(pool.submit(one, row))
            if len(waiting) >= _AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _fetch(row: Row, column: UrlColumn, web: Web) -> Result:
    entry: dict[str, Any] = dict.fromkeys(STATUS.names) | {"file": row.file, "row": row.row, "url": row.url}
    if not row.url:
        return entry | {"status": "failed", "reason": "no_url", "detail": "no address"}, None
    done = read(web, row.url, most=column.max_bytes, deadline=time.monotonic() + column.max_seconds)
    if isinstance(done, Failed):
        told = {"reason": done.reason, "detail": done.detail, "http_status": done.status}
        return entry | {"status": "failed"} | told, None
    data, answer = done
    sha256 = hashlib.sha256(data).hexdigest()
    seen = {"http_status": answer.status, "sha256": sha256, "size": len(data)}
    if row.sha256 and row.sha256 != sha256:
        return entry | seen | _failed("wrong_content", f"sha256 {sha256[:16]}, listed {row.sha256[:16]}"), None
    if not sniff(data):
        return entry | seen | _failed("not_an_image", f"begins with {data[:16]!r}"), None
    return entry | seen | {"status": "ok"}, data


def _failed(reason: str, detail: str) -> dict[str, str]:
    return {"status": "failed", "reason": reason, "detail": detail}


class _Hosts:
    """At most so many requests to one host at a time."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._turns: dict[str, threading.Semaphore] = {}

    def turn(self, url: str) -> threading.Semaphore:
        try:
            host = urlsplit(url).hostname or ""
        except ValueError:
            host = ""  # no address at all: the request will say so
        with self._lock:
            return self._turns.setdefault(host, threading.Semaphore(self._most))


def _known(status: Path, pack: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What an earlier run found out, if its statuses and pack belong together."""
    if not (status.is_file() and pack.is_file()):
        return {}
    entries = pq.read_table(status).to_pylist()
    total = sum(entry["size"] for entry in entries if entry["status"] == "ok")
    return {(e["file"], e["row"]): e for e in entries} if total == pack.stat().st_size else {}


def _from_pack(pack: Path, entry: Mapping[str, Any]) -> bytes | None:
    if entry["status"] != "ok":
        return None
    with pack.open("rb") as stream:
        stream.seek(entry["offset"])
        return stream.read(entry["size"])


def _text(record: Any, name: str | None) -> str | None:
    value = record.get(name) if isinstance(record, Mapping) and name else None
    return value if isinstance(value, str) and value else None


def patience(given: Patience, column: UrlColumn) -> Patience:
    """A picture among many is worth less waiting than a file of a dataset."""
    read_wait = min(given.read, column.max_seconds)
    return dataclasses.replace(
        given, attempts=min(given.attempts, 3), longest_wait=min(given.longest_wait, column.max_seconds), read=read_wait
    )
