"""Defects: what is wrong with raw data in the wild, planted on purpose, and the truth about every one of them.

The idea: one table, `DEFECTS`, names each defect, the stage that must notice it and the reason it must give; a defect
without a stage is only odd and must come through. Every defect has a row of its own and is the only one in that row, so
the number of rows each stage removes is known before the pipeline runs. What is planted is tried first: a truncated
file does fail to load, a near duplicate does look like its original and like nothing else.

Reads nothing, writes nothing.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from pipeline.quickstart.questions import FOREIGN, Turn
from pipeline.quickstart.raw import (
    MIXED,
    SOURCES,
    Picture,
    Row,
    Studio,
    grey32,
    save_bytes,
    scaled,
    subset_of,
    upright_rgb,
)

ALIKE = 12  # a planted near duplicate differs from its original by at most this in every one of 32 x 32 greys
FAINT = 25  # standard deviation of those greys; compressed yellow on white may pass for another picture
ORIENTATION = 0x0112  # the EXIF tag; 6 asks the viewer to turn the picture by a quarter

HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"


@dataclass(frozen=True)
class Planted:
    """A defective row and, for a copy, the row it was copied from."""

    row: Row
    original: Row | None = None


class Planter:
    """What the makers of defects draw on: new rows, and clean or held-out rows to copy, each at most once."""

    def __init__(self, studio: Studio, clean: list[Row], held_out: list[Row]) -> None:
        rng = random.Random(f"originals/{studio.seed}")
        self.studio = studio
        self.clean = rng.sample(clean, len(clean))
        self.held_out = rng.sample(held_out, len(held_out))

    def new(self, source: str, number: int) -> Row:
        return self.studio.row(source, MIXED[number % len(MIXED)])

    def take(self, rows: list[Row], wanted: Callable[[Row], bool]) -> Row:
        """The first wanted row, which then is nobody else's to take."""
        for index, row in enumerate(rows):
            if wanted(row):
                return rows.pop(index)
        raise LookupError("no row is left to copy: the corpus is too small for its defects")

    def copy(self, original: Row, source: str, data: bytes, ending: str = "") -> Row:
        """The row once more, in some source, with these bytes for its image."""
        serial = self.studio.serial()
        name = f"{original.kind}/{serial:06d}.{ending or original.pictures[0].name.rpartition('.')[2]}"
        subset = subset_of(source, original.kind)
        return replace(original, serial=serial, source=source, subset=subset, pictures=(Picture(data, name),))

    def look_alike(self, original: Row, data: bytes) -> bool:
        """Does this file look like the original, which is not faint, and like no other picture of the corpus?"""
        grey, bytes_before = grey32(data), _bytes(original)
        others = self.studio.gallery.alike(grey)
        return (
            len(others) == 1
            and grey.std() >= FAINT
            and _worst(grey, grey32(bytes_before)) <= ALIKE
            and data != bytes_before
        )


@dataclass(frozen=True)
class Defect:
    """A kind of defect: who must notice it (nobody, if `stage` is None), where it can occur, how it is made."""

    kind: str
    stage: str | None
    reason: str | None
    make: Callable[[Planter, str, int], Planted]
    sources: tuple[str, ...] = SOURCES
    count: int = 9  # at scale 1


def _variant(number: int) -> int:
    """One of three variants; each meets each of three sources, since sources take turns as well."""
    return (number + number // 3) % 3


def _bytes(row: Row) -> bytes:
    data = row.pictures[0].data
    assert data is not None, "only rows with a whole image are copied"
    return data


def _worst(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> int:
    return int(np.abs(one.astype(int) - two.astype(int)).max())


def _with_bytes(row: Row, data: bytes | None) -> Planted:
    return Planted(replace(row, pictures=(replace(row.pictures[0], data=data),)))


# ---- noticed when the row is read


def _truncated(planter: Planter, source: str, number: int) -> Planted:
    for attempt in range(50):
        row = planter.new(source, number + attempt)
        half = _bytes(row)[: int(len(_bytes(row)) * (0.6 - 0.1 * (number % 2)))]
        if fails_only_on_load(half):
            return _with_bytes(row, half)
    raise LookupError("no file was found that opens but does not load when it is cut")


def fails_only_on_load(data: bytes) -> bool:
    """Does the header promise an image that the rest does not deliver?"""
    try:
        image = Image.open(io.BytesIO(data))
    except OSError:
        return False
    try:
        image.load()
    except OSError:
        return True
    return False


def _unreadable(planter: Planter, source: str, number: int) -> Planted:
    noise = planter.studio.rng("noise", number).randbytes(700)
    return _with_bytes(planter.new(source, number), (HTML, noise, b"")[_variant(number)])


def _missing(planter: Planter, source: str, number: int) -> Planted:
    return _with_bytes(planter.new(source, number), None)


def _wrong_placeholders(planter: Planter, source: str, number: int) -> Planted:
    return Planted(replace(planter.new(source, number), placeholders=(0, 2)[number % 2]))


def _no_conversation(planter: Planter, source: str, number: int) -> Planted:
    return Planted(replace(planter.new(source, number), turns=()))


# ---- odd, but nothing is wrong with it


def _mislabelled(planter: Planter, source: str, number: int) -> Planted:
    form = ("GIF", "PNG", "WEBP")[_variant(number)]
    options = {"lossless": True} if form == "WEBP" else {}
    kind = MIXED[number % len(MIXED)]
    return Planted(planter.studio.row(source, kind, lambda image: save_bytes(image, form, **options), "jpg"))


def _cmyk(planter: Planter, source: str, number: int) -> Planted:
    def encode(image: Image.Image) -> bytes:
        return save_bytes(image.convert("CMYK"), "JPEG", quality=95, subsampling=0)

    return Planted(planter.studio.row(source, MIXED[number % len(MIXED)], encode, "jpg"))


def _palette(planter: Planter, source: str, number: int) -> Planted:
    def encode(image: Image.Image) -> bytes:
        indexed = image.quantize(64, dither=Image.Dither.NONE)
        return save_bytes(indexed, "PNG", transparency=indexed.getpixel((0, 0)))

    return Planted(planter.studio.row(source, MIXED[number % len(MIXED)], encode, "png"))


def _grey16(planter: Planter, source: str, number: int) -> Planted:
    """A picture without colour, so the turns that ask for one are left out."""

    def encode(image: Image.Image) -> bytes:
        return save_bytes(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")

    row = planter.studio.row(source, ("single", "count", "sign")[number % 3], encode, "png")
    turns = [turn for turn in _all_turns(row) if "colour" not in turn.topic]
    return Planted(replace(row, turns=tuple(turns[:1])))


def _rotated(planter: Planter, source: str, number: int) -> Planted:
    """Stored lying on its side; the kinds are those whose answer depends on which side is up."""

    def encode(image: Image.Image) -> bytes:
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        lying = image.transpose(Image.Transpose.ROTATE_90)
        return save_bytes(lying, "JPEG", quality=95, subsampling=0, exif=exif)

    return Planted(planter.studio.row(source, ("pair", "chart")[number % 2], encode, "jpg"))


def _same_image_other_question(planter: Planter, source: str, number: int) -> Planted:
    """The bytes of a clean row with a question that row does not ask: no duplicate."""
    original = planter.take(planter.clean, lambda row: row.scene is not None and len(row.turns) == 1)
    return Planted(_ask_otherwise(planter, planter.copy(original, source, _bytes(original))), original)


def _ask_otherwise(planter: Planter, row: Row) -> Row:
    """The row, asking only things it did not ask before, in a language of its source."""
    language = planter.studio.language(row.source)
    asked = {turn.topic for turn in row.turns}
    others = [turn for turn in _all_turns(replace(row, language=language)) if turn.topic not in asked]
    return replace(row, language=language, turns=tuple(others[:1]))


def _all_turns(row: Row) -> list[Turn]:
    assert row.scene is not None, "only rows of one scene have more turns than they ask"
    return row.scene.turns[row.language]


# ---- noticed by comparing rows


def _fits(source: str) -> Callable[[Row], bool]:
    """Which clean rows could as well be rows of this source? The Japanese one has one turn and one image at most."""
    if source == "japanese":
        return lambda row: row.language == "ja" and len(row.turns) == 1 and len(row.pictures) <= 1
    return lambda row: True


def _duplicate(planter: Planter, source: str, number: int) -> Planted:
    """The same bytes and the same text again; every third time a row without an image."""
    fits, images = _fits(source), 0 if _variant(number) == 1 else 1
    original = planter.take(planter.clean, lambda row: fits(row) and len(row.pictures) == images)
    if images:
        return Planted(planter.copy(original, source, _bytes(original)), original)
    subset = subset_of(source, original.kind)
    return Planted(replace(original, serial=planter.studio.serial(), source=source, subset=subset), original)


def _near_duplicate(planter: Planter, source: str, number: int) -> Planted:
    fits = _fits(source)
    while True:
        original = planter.take(planter.clean, lambda row: fits(row) and len(row.pictures) == 1)
        data, ending = _almost_same(_bytes(original), number)
        if planter.look_alike(original, data):
            return Planted(planter.copy(original, source, data, ending), original)


def _almost_same(data: bytes, number: int) -> tuple[bytes, str]:
    """The picture compressed harder or in another size."""
    image = upright_rgb(data)
    if number % 2 == 0:
        return save_bytes(image, "JPEG", quality=(60, 68, 75)[number // 2 % 3]), "jpg"
    factor = (0.5, 0.75, 1.5, 2.0)[number // 2 % 4]
    size = (round(image.width * factor), round(image.height * factor))
    return save_bytes(image.resize(size, Image.Resampling.LANCZOS), "PNG"), "png"


def _leak(planter: Planter, source: str, number: int) -> Planted:
    """A picture of the benchmark under another question: its bytes, or the picture compressed or resized."""
    altered = _variant(number) > 0
    while True:
        original = planter.take(planter.held_out, lambda row: True)
        data, ending = _almost_same(_bytes(original), number) if altered else (_bytes(original), "png")
        if not altered or planter.look_alike(original, data):
            return Planted(_ask_otherwise(planter, planter.copy(original, source, data, ending)), original)


# ---- noticed by reading or by scores


def _foreign(planter: Planter, source: str, number: int) -> Planted:
    turn = Turn("foreign", *FOREIGN[number % len(FOREIGN)])
    return Planted(replace(planter.new(source, number), turns=(turn,)))


def _empty_answer(planter: Planter, source: str, number: int) -> Planted:
    row = planter.new(source, number)
    return Planted(replace(row, turns=tuple(replace(turn, answer=("", "  \n")[number % 2]) for turn in row.turns)))


def _low_rating(planter: Planter, source: str, number: int) -> Planted:
    return Planted(replace(planter.new(source, number), ratings=(1,)))


DEFECTS = (
    Defect("image_truncated", "ingest", "image_truncated", _truncated),
    Defect("image_unreadable", "ingest", "image_unreadable", _unreadable),
    Defect("image_missing", "ingest", "image_missing", _missing, ("llava", "fine")),
    Defect("placeholder_mismatch", "ingest", "placeholder_mismatch", _wrong_placeholders, ("llava",)),
    Defect("no_conversation", "ingest", "no_conversation", _no_conversation, ("fine", "llava")),
    Defect("mislabelled", None, None, _mislabelled),
    Defect("cmyk", None, None, _cmyk),
    Defect("palette_transparent", None, None, _palette),
    Defect("grey16", None, None, _grey16),
    Defect("exif_rotated", None, None, _rotated),
    Defect("same_image_other_question", None, None, _same_image_other_question, count=12),
    Defect("duplicate", "dedupe", "duplicate", _duplicate, count=12),
    Defect("near_duplicate", "dedupe", "near_duplicate", _near_duplicate, count=12),
    Defect("benchmark_image", "decontaminate", "benchmark_image", _leak),
    Defect("wrong_language", "language", "wrong_language", _foreign, count=10),
    Defect("empty_answer", "quality", "empty_answer", _empty_answer),
    Defect("low_rating", "quality", "low_rating", _low_rating, ("fine",)),
)


def plant(planter: Planter, scale: float) -> list[tuple[Defect, Planted]]:
    """Every defect a few times, never less than twice, in turn in each of the sources it can occur in."""
    planted = []
    for place, defect in enumerate(DEFECTS):
        for number in range(max(2, scaled(defect.count, scale))):
            source = defect.sources[(place + number) % len(defect.sources)]
            planted.append((defect, defect.make(planter, source, number)))
    return planted
