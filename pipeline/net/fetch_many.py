"""Fetch the images that a slice of rows names: many at a time, few from one host, each row with its status.

An address is asked once for all rows of the slice that name it. What an earlier run fetched, or learned for good (a
missing page), is taken over: from the journal of a run that was killed, from the pack and statuses of one that ended;
only what may heal is asked again. The pack is written in the order of the rows, equal images once, so the order of
arrival leaves no trace.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.net.answer import Answer
from pipeline.net.host_queue import SILENCES, Lines, host_of
from pipeline.net.http_client import Web
from pipeline.net.journal import Journal, Lies, Outcome
from pipeline.net.patience import Patience
from pipeline.net.retries import read
from pipeline.net.trouble import Failed
from pipeline.storage.commit import commit
from stages.fetch_images import HEALING, REFUSED, STATUS
from stages.images.rules import sniff
from stages.sources.declaration import UrlColumn

_HALF = re.compile("[\ud800-\udfff]")

Known = dict[str, tuple[Outcome, Lies | None]]


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


def rows(records: Iterable[tuple[int, Any]], file: str, column: UrlColumn) -> list[Row]:
    """The addresses of a slice of records."""
    found = []
    for number, record in records:
        url, sha256 = (_text(record, name) for name in (column.column, column.sha256))
        found.append(Row(file, number, url, sha256.lower() if sha256 else None))
    return found


def collect(
    wanted: Sequence[Row], folder: Path, number: int, column: UrlColumn, web: Web, crowd: Crowd
) -> Counter[str]:
    """Fetch what is missing; write the pack, then the statuses. How many rows failed, by reason."""
    pack, status = folder / f"images-{number:05d}.pack", folder / f"status-{number:05d}.parquet"
    held, journal = _held(status, pack), Journal(folder, number)
    try:
        known = _taken_over(held, pack) | journal.known
        missing = dict.fromkeys(row.url for row in wanted if row.url and row.url not in known)
        known |= _fetch_all(list(missing), journal, column, web, crowd)
    finally:
        journal.close()
    if len(held) < len(wanted) or journal.known:
        # else another try brought nothing: the files stay as they are, whatever the failures read like this time
        held = []
        commit(pack, lambda path: held.extend(_write_pack(path, pack.name, wanted, known)))
        table = pa.Table.from_pylist(held, STATUS)
        commit(status, lambda path: pq.write_table(table, path, compression="zstd"))
    journal.remove()
    return Counter(entry["reason"] for entry in held if entry["reason"])


def _fetch_all(urls: Sequence[str], journal: Journal, column: UrlColumn, web: Web, crowd: Crowd) -> Known:
    """What every address gives. What no later try would change goes to the journal, bytes and all."""
    lines = Lines(urls, crowd.per_host)
    healing: dict[str, Failed] = {}

    def work() -> None:
        try:
            while (url := lines.take()) is not None:
                deadline = time.monotonic() + column.max_seconds
                found = read(web, url, most=column.max_bytes, deadline=deadline, leave_silent=True)
                failed = found if isinstance(found, Failed) else None
                if failed is not None and failed.reason in HEALING | REFUSED:
                    healing[url] = failed
                else:
                    journal.add(url, *_judged(found))
                lines.done(url, failed is not None and failed.silent)
        finally:
            lines.stop()  # nothing is left, or this worker failed: the others must not wait for it

    with ThreadPoolExecutor(crowd.at_a_time) as pool:
        try:
            for worker in [pool.submit(work) for _ in range(min(crowd.at_a_time, len(urls)))]:
                worker.result()
        finally:
            lines.stop()
    down = lines.down
    rest = {url: healing.get(url) for url in urls if url not in journal.known}
    return journal.known | {url: (_may_heal(url, failed, down), None) for url, failed in rest.items()}


def _judged(found: tuple[bytes, Answer] | Failed) -> tuple[Outcome, bytes | None]:
    """An answer as an outcome, with its bytes if they are an image."""
    if isinstance(found, Failed):
        return _failed(found), None
    data, answer = found
    seen = Outcome(answer.status, hashlib.sha256(data).hexdigest(), len(data))
    if sniff(data):
        return seen, data
    return dataclasses.replace(seen, reason="not_an_image", detail=f"begins with {data[:16]!r}"), None


def _failed(failed: Failed) -> Outcome:
    return Outcome(failed.status, reason=failed.reason, detail=failed.detail)


def _may_heal(url: str, failed: Failed | None, down: Container[str]) -> Outcome:
    """Without an image for now. Silent addresses of a host that is down read the same: which were asked is chance."""
    host = host_of(url)
    if failed is None or (failed.silent and host in down):
        return Outcome(reason="host_down", detail=f"{host}: gave no sign of life {SILENCES} times in a row")
    return _failed(failed)


def _write_pack(path: Path, name: str, wanted: Sequence[Row], known: Known) -> list[dict[str, Any]]:
    """Lay the images end to end, each once; the status of every row."""
    places: dict[str, int] = {}
    statuses, end = [], 0
    with path.open("wb") as stream:
        for row in wanted:
            entry, lies = _status(row, known)
            if lies is not None:
                if entry["sha256"] not in places:
                    places[entry["sha256"]] = end
                    end += stream.write(lies.read())
                entry |= {"pack": name, "offset": places[entry["sha256"]]}
            statuses.append(entry)
    return statuses


def _status(row: Row, known: Known) -> tuple[dict[str, Any], Lies | None]:
    """What a row is told about its address, and where the image lies if it may have it."""
    entry: dict[str, Any] = dict.fromkeys(STATUS.names) | {"file": row.file, "row": row.row, "url": row.url}
    if not row.url:
        return entry | {"status": "failed", "reason": "no_url", "detail": "no address"}, None
    outcome, lies = known[row.url]
    entry |= vars(outcome)
    if outcome.sha256 and row.sha256 not in (None, outcome.sha256):
        detail = f"sha256 {outcome.sha256[:16]}, listed {str(row.sha256)[:16]}"
        return entry | {"status": "failed", "reason": "wrong_content", "detail": detail}, None
    return entry | {"status": "failed" if outcome.reason else "ok"}, None if outcome.reason else lies


def _held(status: Path, pack: Path) -> list[dict[str, Any]]:
    """The statuses of an earlier run that ended, without addresses whose image the pack does not have after all."""
    if not (status.is_file() and pack.is_file()):
        return []
    entries = pq.read_table(status).to_pylist()
    images = [(e, Lies(pack, e["offset"], e["size"])) for e in entries if e["status"] == "ok"]
    lost = {e["url"] for e, lies in images if hashlib.sha256(lies.read()).hexdigest() != e["sha256"]}
    return [entry for entry in entries if entry["url"] not in lost]


def _taken_over(held: Iterable[Mapping[str, Any]], pack: Path) -> Known:
    """What an earlier run found out for good."""
    known: Known = {}
    for entry in held:
        outcome = Outcome(*(entry[field.name] for field in dataclasses.fields(Outcome)))
        if entry["status"] == "ok":
            known[entry["url"]] = outcome, Lies(pack, entry["offset"], entry["size"])
        elif entry["reason"] == "wrong_content":
            known.setdefault(entry["url"], (outcome, None))  # this row's word; to another it may have been content
        elif entry["reason"] not in HEALING | REFUSED and entry["url"]:
            known[entry["url"]] = outcome, None
    return known


def _text(record: Any, name: str | None) -> str | None:
    value = record.get(name) if isinstance(record, Mapping) and name else None
    # JSON can hold half a character (a lone surrogate), which is no text and can't be written
    return value if isinstance(value, str) and value and not _HALF.search(value) else None


def patience(given: Patience, column: UrlColumn) -> Patience:
    """A picture among many is worth less waiting than a file of a dataset."""
    read_wait = min(given.read, column.max_seconds / 2)
    return dataclasses.replace(
        given, attempts=min(given.attempts, 3), longest_wait=min(given.longest_wait, column.max_seconds), read=read_wait
    )
