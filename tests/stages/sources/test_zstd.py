"""Zstandard files as streams: any frames one after the other, in little memory, or one line that says what is wrong."""

from __future__ import annotations

import gzip
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from stages.sources.records import streams
from stages.sources.records.streams import DataError, opened

ROOT = Path(__file__).parents[3]


def written(folder: Path, data: bytes, name: str = "a.zst") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def skippable(size: int) -> bytes:
    return struct.pack("<II", 0x184D2A50 + size % 16, size) + b"x" * size


def frame(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


def windowed(log: int) -> bytes:
    """A frame that asks for a window of 2 ** `log` bytes, whatever it holds."""
    wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=log)
    writer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    return writer.compress(b"[1, 2]") + writer.flush()


def plain(path: Path) -> bytes:
    with opened(path) as stream:
        return stream.read()


_FRAMES = st.lists(
    st.one_of(
        st.integers(0, 700).map(skippable),
        st.builds(frame, st.binary(max_size=40), write_content_size=st.booleans(), write_checksum=st.booleans()),
        st.integers(0, 2000).map(lambda size: frame(random.Random(size).randbytes(size), write_checksum=True)),
        st.integers(0, 3 << 20).map(lambda size: frame(bytes(size))),
    ),
    max_size=12,
)


@given(_FRAMES, st.lists(st.integers(0, 1 << 20), max_size=4))
def test_frames_hold_what_was_compressed(
    tmp_path_factory: pytest.TempPathFactory, frames: list[bytes], places: list[int]
) -> None:
    """One after the other, whatever lies between them and wherever a header falls; and again from any place."""
    path = written(tmp_path_factory.getbasetemp(), b"".join(frames), "any.zst")
    reader = zstandard.ZstdDecompressor()
    whole = b"".join(reader.decompressobj().decompress(data) for data in frames)
    streams._close()
    assert plain(path) == whole
    with opened(path) as stream:
        for place in places:
            stream.seek(place)
            assert stream.read(1000) == whole[place : place + 1000]


@pytest.mark.parametrize("options", [{}, {"write_checksum": True}, {"write_content_size": False}])
def test_a_zstd_file_cut_anywhere_but_between_its_frames_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    first, last = frame(b"abc" * 50 + random.Random(1).randbytes(50), **options), frame(b"def", **options)
    ends = {0: b"", len(first): plain(written(tmp_path, first))}
    ends[len(first) + len(skippable(9))] = ends[len(first)]
    data = first + skippable(9) + last
    for length in range(len(data)):
        path = written(tmp_path, data[:length], f"{length}.zst")
        if length in ends:
            assert plain(path) == ends[length]
            continue
        with pytest.raises(DataError, match=rf"{length}\.zst: damaged or cut at byte .*; fetch it again$") as caught:
            plain(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tail", [b"\n", b"\0" * 20, b"garbage", frame(b"x")[1:]])
def test_what_is_no_frame_is_damage(tmp_path: Path, tail: bytes) -> None:
    with pytest.raises(DataError, match=r"a\.zst: damaged or cut"):
        plain(written(tmp_path, frame(b"[1]") + tail))


def test_a_frame_that_needs_a_dictionary_is_refused(tmp_path: Path) -> None:
    words = zstandard.train_dictionary(1024, [b"%d words" % n * 9 for n in range(999)])
    with pytest.raises(DataError, match=r"a\.zst: damaged or cut.*Dictionary"):
        plain(written(tmp_path, frame(b"7 words", dict_data=words)))


def test_the_window_has_a_limit(tmp_path: Path) -> None:
    """What `zstd` reads unasked is read here; what it wants --long for, and so much memory, is refused."""
    assert plain(written(tmp_path, windowed(27))) == b"[1, 2]"
    with pytest.raises(DataError, match=r"268,435,456 bytes, at most 134,217,728; compress it again") as caught:
        plain(written(tmp_path, frame(b"[1, ") + windowed(28), "b.zst"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_failed_once_fails_again(tmp_path: Path, suffix: str) -> None:
    """A stream is kept at its place; not one that met damage, which would go on behind it."""
    good, bad = random.Random(2).randbytes(3 << 20), bytearray(random.Random(3).randbytes(3 << 20))
    squeeze = gzip.compress if suffix == ".gz" else lambda data: frame(data, write_checksum=True)
    packed_bad = bytearray(squeeze(bytes(bad)))
    packed_bad[-1] ^= 1
    path = written(tmp_path, squeeze(good) + packed_bad + squeeze(good), f"a{suffix}")
    for _ in range(2):
        with opened(path) as stream:
            assert stream.read(1000) == good[:1000]
        for _ in range(2):
            with pytest.raises(DataError, match="damaged or cut"), opened(path) as stream:
                while stream.read(1 << 20):
                    pass


_INFLATED = """
import sys
from pathlib import Path
from stages.sources.records.streams import opened
with opened(Path(sys.argv[1])) as stream:
    size = sum(iter(lambda: len(stream.read(65536)), 0))
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(size, peak)
"""


def test_what_inflates_without_end_takes_little_memory(tmp_path: Path) -> None:
    writer, size = zstandard.ZstdCompressor().compressobj(), 1 << 30
    data = b"".join(writer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + writer.flush()
    assert len(data) < 50_000
    command = [sys.executable, "-c", _INFLATED, str(written(tmp_path, data))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    found, peak = map(int, done.stdout.split())
    assert found == size and peak < 200_000, f"{peak:,} kB"  # 115 MB measured, 64 MB of it before the file is open
