"""Where a source's image files lie: a folder or a zip, read by name and never unpacked.

Names come from datasets and are not trusted: absolute names, `..`, and links that lead out of the folder are refused as
`image_missing`, and a file above the byte cap as `image_too_large` before it is read.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from stages.images import BadImage
from stages.sources.streams import DataError

MAX_IMAGE_BYTES = 256 * 1024 * 1024


class ImageFiles:
    """Image bytes by name, below `root`: a folder, a zip file, or nowhere (None: every image is inline)."""

    def __init__(self, root: Path | None, max_bytes: int = MAX_IMAGE_BYTES) -> None:
        self.root = None if root is None else root.resolve()
        self.max_bytes = max_bytes
        self._zip = _open_zip(self.root) if self.root is not None and self.root.suffix == ".zip" else None

    def read(self, name: str) -> bytes:
        """The bytes of one image. Raises BadImage."""
        if name.lower().startswith(("http://", "https://")):
            raise BadImage("image_missing", f"{name!r} is a URL; URLs need downloading first")
        parts = PurePosixPath(name).parts
        if self.root is None:
            raise BadImage("image_missing", f"{name!r} has no bytes, and the source names no folder of images")
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or "\0" in name:
            raise BadImage("image_missing", f"{name!r} leads out of the folder of images")
        return self._from_folder(self.root, name) if self._zip is None else self._from_zip(self._zip, name)

    def _from_folder(self, root: Path, name: str) -> bytes:
        try:
            path = (root / name).resolve()
            inside = path.is_relative_to(root) and path.is_file()
        # a name too long for the file system, a link to itself (RuntimeError), a name without UTF-8 (ValueError)
        except (OSError, RuntimeError, ValueError) as error:
            raise BadImage("image_missing", f"{name[:80]!r}: {getattr(error, 'strerror', None) or error}") from None
        if not inside:
            raise BadImage("image_missing", f"{name!r} is not among the images")
        self._check_size(name, path.stat().st_size)
        return path.read_bytes()

    def _from_zip(self, archive: zipfile.ZipFile, name: str) -> bytes:
        try:
            member = archive.getinfo(name)
        except KeyError:
            raise BadImage("image_missing", f"{name!r} is not in the archive") from None
        self._check_size(name, member.file_size)
        try:
            with archive.open(member) as stream:
                return stream.read(self.max_bytes + 1)
        except _ZIP_ERRORS as error:
            raise BadImage("image_unreadable", f"{name!r} can't be read from the archive: {error}") from None

    def _check_size(self, name: str, size: int) -> None:
        if size > self.max_bytes:
            raise BadImage("image_too_large", f"{name!r} has {size:,} bytes, at most {self.max_bytes:,}")


# What the zip reader raises on damaged, encrypted or oddly compressed members
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    NotImplementedError,
    RuntimeError,
    EOFError,
)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: not a readable zip archive ({error}); fetch it again") from None
