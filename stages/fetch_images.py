"""What becomes of images that rows name by address: one status per row, and packs of the bytes.

The web is no fixed content: an address that fails today may answer tomorrow. So the result of fetching is content of
its own: ingest's identity has the hash of statuses and packs in it, and a later run asks again for what may heal.
A pack is the images of one part laid end to end in the order of the rows, equal ones once; a status says where each one
lies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages import download
from stages.images.rules import BadImage
from stages.sources.archives.image_files import ImageFiles
from stages.sources.records.slices import Slice
from stages.sources.records.streams import DataError

VERSION = 2

REASONS = {
    **download.REASONS,
    "no_url": "the row has no text in the column of addresses",
    "not_an_image": "the address answers with something else",
    "too_slow": "the image was not there in max_seconds",
    "host_down": "the host gave no sign of life several times in a row, so not all of its addresses were asked",
}
# Worth another try in a later run; a missing page, a picture that changed and an error page are not
HEALING = frozenset(
    {"rate_limited", "server_error", "timeout", "cut_short", "unreachable", "unresolved", "too_slow", "host_down"}
)
# What this machine refused, and not the other: worth another try once its rules have changed
REFUSED = frozenset({"address_refused", "certificate"})

STATUS = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("url", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("http_status", pa.int32()),
        ("sha256", pa.string()),
        ("size", pa.int64()),
        ("pack", pa.string()),
        ("offset", pa.int64()),
    ]
)


class Damaged(DataError):
    """A pack does not hold what was fetched."""


class Packs(ImageFiles):
    """The fetched images of a slice of rows. A row sees its own status only, never that of another with its address."""

    def __init__(self, folder: Path, part: Slice) -> None:
        super().__init__(None)
        self.folder = folder
        self._row = -1
        mine = [("file", "==", part.file), ("row", ">=", part.first), ("row", "<", part.first + part.rows)]
        tables = [pq.read_table(path, filters=mine) for path in sorted(folder.glob("status-*.parquet"))]
        self._found: dict[int, dict[str, Any]] = {e["row"]: e for table in tables for e in table.to_pylist()}

    def follow(self, records: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        """The records themselves; `read` answers for the row that was given out last."""
        for self._row, record in records:
            yield self._row, record

    def read(self, name: str) -> bytes:
        """The bytes at an address. Raises BadImage with the reason why there are none."""
        entry = self._found.get(self._row)
        if entry is None or entry["url"] != name:
            raise BadImage("image_missing", f"{name!r} was never asked for; is urls.column the image's column?")
        if entry["status"] != "ok":
            raise BadImage("image_not_fetched", f"{entry['reason']}: {entry['detail']}")
        with (self.folder / entry["pack"]).open("rb") as stream:
            stream.seek(entry["offset"])
            data: bytes = stream.read(entry["size"])
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            place = f"{self.folder / entry['pack']}: the image of {entry['file']} row {entry['row']}"
            raise Damaged(f"{place} has other bytes than its sha256 says; delete the folder and run again")
        return data
