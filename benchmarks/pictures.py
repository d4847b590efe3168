"""Whether the same picture is found, and different ones of a template kept apart; and how long that takes.

    python -m benchmarks.pictures [--photos FOLDER] [--half test|tuning] [--templates 25] [--variants 50] [--looks 40]

  recall   per edit, of photographs (made ones, and the half of FOLDER's subfolders that belongs to this half), as by
           default and where a mark may differ, of what is drawn among these, and of made documents: found by hash, by
           signature, and in the end, by their files where signatures can't tell, for several leeways
  merges   of kinds x templates x variants distinct documents, saved as PNG and as JPEG: pairs near by hash, pairs that
           their signatures let pass, and of these (at most --looks of a kind, evenly chosen) those that their files let
           pass, and the kind of the nearest;
           `noisy`: an original beside another document, re-encoded, at the same leeways
  speed    100,000 signatures at radius 10: seconds of candidates and judgement (not of files)

Thresholds were chosen on `tuning`; report `test`.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.picture_edits import LIGHT, STRICT, saved
from benchmarks.picture_kinds import KINDS, templated
from benchmarks.picture_scenes import photo
from stages.filters import same_picture
from stages.filters.image_match import LOOK, OTHER, SAME, Match, Pictures, apart, judged, near
from stages.images.hashes import DRAWN
from stages.images.rules import inspect, open_rgb

LEEWAYS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
_RADIUS, _MARK = 10, 0.03


def pictures(files: Sequence[bytes]) -> Pictures:
    return Pictures.of([asdict(inspect(data, 10**9)) for data in files])


def photographs(folder: Path | None, half: str, count: int) -> list[Image.Image]:
    drawn = [photo(half, seed) for seed in range(count)]
    if folder is None:
        return drawn
    folders = sorted({path.parent for path in folder.rglob("*") if path.is_file()})[half == "test" :: 2]
    real = [open_rgb(path.read_bytes()) for place in folders for path in sorted(place.iterdir()) if path.is_file()]
    for image in real:
        image.thumbnail((1280, 1280))
    return real + drawn


def recall(name: str, images: list[Image.Image], match: Match) -> None:
    originals = [saved(image) for image in images]
    before = pictures(originals)
    print(
        f"\nrecall, {name}: {len(images)} pictures\n| edit | by hash | by signature | leeway "
        + " | ".join(map(str, LEEWAYS))
        + " |",
        flush=True,
    )
    for edit, make in {**STRICT, **LIGHT}.items():
        files = [make(image) for image in images]
        after = pictures(files)
        close, (verdict, _) = apart(before, after) <= _RADIUS, judged(before, after, match)
        distance = np.array([_distance(*pair, match.mark) for pair in zip(verdict, originals, files, strict=True)])
        found = [np.mean(close & (distance <= leeway)) for leeway in LEEWAYS]
        parts = [np.mean(close), np.mean(close & (verdict != OTHER)), *found]
        print(f"| {edit} | " + " | ".join(f"{100 * part:.1f}" for part in parts) + " |", flush=True)


def _distance(verdict: int, left: bytes, right: bytes, mark: float = 0) -> float:
    if verdict != LOOK:
        return 0.0 if verdict == SAME else float("inf")
    return same_picture.distance_of(same_picture.Opened(left), same_picture.Opened(right), mark)


def merges(kinds: list[str], files: list[bytes], looks: int, format: str) -> None:
    look = pictures(files)
    count, passed = 0, defaultdict[str, list[tuple[int, int]]](list)
    for i, j in _within(look):
        verdict, _ = judged(look.take(i), look.take(j), Match())
        count += len(i)
        for one, other in zip(i[verdict != OTHER].tolist(), j[verdict != OTHER].tolist(), strict=True):
            passed[kinds[one]].append((one, other))
    chosen = [(kind, *pair) for kind, pairs in passed.items() for pair in pairs[:: -(-len(pairs) // looks)]]
    found = [(same_picture.distance(files[i], files[j]), kind) for kind, i, j in chosen]
    nearest = _below([distance for distance, _ in found])
    print(
        f"\nmerges, {format}: {len(files)} documents, {count} pairs near by hash, "
        f"{sum(map(len, passed.values()))} pass their signatures, {len(found)} looked at; {nearest}: "
        + min(found, default=(0, "none"))[1],
        flush=True,
    )


def noisy(half: str, templates: int) -> None:
    """An original, and another document of its template that was re-encoded: the hardest pairs."""
    made = [image for _, image in templated(half, templates, 3)]
    for edit in ("JPEG 95", "JPEG 30", "resize 0.5", "crop 2 %", "brightness +20 %"):
        pairs = [(made[n - n % 3], image) for n, image in enumerate(made) if n % 3]
        files = [(saved(a, "PNG"), {**STRICT, **LIGHT}[edit](b)) for a, b in pairs]
        verdict, _ = judged(pictures([a for a, _ in files]), pictures([b for _, b in files]), Match())
        print(
            f"noisy, {edit}: {_below([_distance(v, *pair) for v, pair in zip(verdict, files, strict=True)])}",
            flush=True,
        )


def _within(all_of: Pictures) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(i, j), i < j, of all pairs at most _RADIUS apart, lot by lot."""
    for i, j in near(all_of, all_of, _RADIUS):
        yield i[i < j], j[i < j]


def _below(distances: list[float]) -> str:
    counts = ", ".join(f"{sum(d <= leeway for d in distances)} at {leeway}" for leeway in LEEWAYS)
    return f"of {len(distances)} merged {counts}; nearest {min(distances, default=float('nan')):.2f}"


def speed(count: int = 100_000) -> None:
    """Random waves; every tenth has a copy with a little noise, other light and a few bits of its hash changed."""
    rng = np.random.default_rng(1)
    small = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
    grey = np.repeat(np.repeat(small, 4, 1), 4, 2).reshape(count, 1024)
    phash = rng.integers(0, 2**64, count, dtype=np.uint64)
    half = count // 10
    grey[-half:] = np.clip(grey[:half] * 0.9 + rng.normal(5, 2, (half, 1024)), 0, 255)
    phash[-half:] = phash[:half] ^ (np.uint64(1) << rng.integers(0, 64, half, dtype=np.uint64))
    detail = rng.integers(-999, 999, (count, 484)).astype("<i2")
    everything = Pictures(phash, grey, detail, np.zeros(count, np.uint8), np.ones((count, 2), np.int32))
    started, found = time.perf_counter(), 0
    for i, j in _within(everything):
        found += int((judged(everything.take(i), everything.take(j), Match())[0] != OTHER).sum())
    print(f"\nspeed: {count} signatures, {half} copies, {found} found, {time.perf_counter() - started:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--half", choices=list(KINDS), default="test")
    for name, default in (("templates", 25), ("variants", 50), ("looks", 40), ("scenes", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    speed()
    images = photographs(given.photos, given.half, given.scenes)
    drawn = pictures([saved(image) for image in images]).plain >= DRAWN
    others = [image for image, flat in zip(images, drawn, strict=True) if not flat]
    recall("photographs", others, Match())
    recall(f"photographs, mark {_MARK}", others, Match(mark=_MARK))
    if drawn.any():
        recall(
            "drawn pictures of the folder", [image for image, flat in zip(images, drawn, strict=True) if flat], Match()
        )
    recall("documents", [image for _, image in templated(given.half, max(1, given.templates // 6), 1)], Match())
    noisy(given.half, max(1, given.templates // 5))
    made = [(kind, saved(image, "PNG")) for kind, image in templated(given.half, given.templates, given.variants)]
    kinds, files = [kind for kind, _ in made], [data for _, data in made]
    merges(kinds, files, given.looks, "PNG")
    merges(kinds, [saved(Image.open(io.BytesIO(data))) for data in files], given.looks, "JPEG")


if __name__ == "__main__":
    main()
