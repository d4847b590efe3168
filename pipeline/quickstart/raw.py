"""Raw data: scenes become rows of three data sets and of a small benchmark.

The idea: a `Row` says what a row *means*; files.py says how each source spells it. `Studio` makes the pictures and
keeps them apart: no two of its pictures look alike, so that whatever looks alike later was planted.

Reads nothing, writes nothing.
"""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pipeline.quickstart.questions import LANGUAGES, Turn, plain_questions
from pipeline.quickstart.scenes import Scene, draw_scene, which_image

SOURCES = ("fine", "japanese", "llava")
DISTINCT = 24  # clean pictures differ by more than this, in 255ths of grey, in at least one of 32 x 32 pixels
RATINGS = ("relevance", "visual_dependency", "image_correspondence", "formatting")
VISUAL_RATINGS = ("visual_dependency", "image_correspondence")  # null where there is no image
CLEAN_RATINGS = (3, 4, 4, 5, 5, 5)

# How many clean rows at scale 1: the kinds in equal turns, then rows of two images, then rows of none.
MIXED = ("single", "pair", "chart", "count", "sign")
PLAN: tuple[tuple[str, str, tuple[str, ...], int, int, int], ...] = (
    ("fine", "shapes", ("single", "pair", "count", "sign"), 1700, 130, 75),
    ("fine", "charts", ("chart",), 600, 0, 0),
    ("japanese", "", MIXED, 1100, 0, 30),
    ("llava", "", MIXED, 1400, 120, 45),
)
SPLITS = ("validation", "test")
HELD_OUT = 300  # questions of a split
JAPANESE_SHARE = {"fine": 0.2, "japanese": 1.0, "llava": 0.5}
MULTI_TURN_SHARE = {"fine": 0.9, "japanese": 0.0, "llava": 0.9}

Greys = np.ndarray[Any, np.dtype[np.uint8]]
Encoder = Callable[[Image.Image], bytes]
Place = tuple[str, int]  # file inside the source's folder, row in that file


@dataclass(frozen=True)
class Picture:
    """The bytes of one image, whole or not, under the name the source gives it; no bytes: the reference is dead."""

    data: bytes | None
    name: str


@dataclass(frozen=True)
class Row:
    """One row of raw data before a source has spelt it. `serial` is unique in the corpus."""

    serial: int
    source: str
    subset: str
    kind: str
    language: str
    pictures: tuple[Picture, ...]
    turns: tuple[Turn, ...]
    ratings: tuple[int, ...] = CLEAN_RATINGS
    placeholders: int | None = None  # None: one for each picture, as it should be
    scene: Scene | None = None


def upright_rgb(data: bytes) -> Image.Image:
    """The picture as a viewer shows it: 16-bit greys scaled, turned as EXIF says, transparency on white."""
    image: Image.Image = Image.open(io.BytesIO(data))
    image.load()
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    turned = ImageOps.exif_transpose(image)
    if not turned.has_transparency_data:
        return turned.convert("RGB")
    layer = turned.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def grey32(data: bytes) -> Greys:
    """The picture as 1024 grey values: what "looks alike" is measured on."""
    small = upright_rgb(data).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    greys: Greys = np.asarray(small, dtype=np.uint8).reshape(-1)
    return greys


class Gallery:
    """Every picture made so far, as greys, and which of them look like a new one."""

    _PROBES = (np.arange(96) * 37) % 1024  # a few pixels decide nearly every comparison

    def __init__(self) -> None:
        self._greys = np.empty((1024, 1024), np.uint8)
        self._probes = np.empty((1024, len(self._PROBES)), np.uint8)
        self._count = 0

    def alike(self, grey: Greys, bound: int = DISTINCT) -> list[int]:
        """Numbers of the pictures that differ from this one by at most the bound, everywhere."""
        near = np.flatnonzero(_difference(self._probes[: self._count], grey[self._PROBES]) <= bound)
        return [int(i) for i in near[_difference(self._greys[near], grey) <= bound]]

    def add(self, grey: Greys) -> None:
        if self._count == len(self._greys):
            self._greys = np.concatenate([self._greys, np.empty_like(self._greys)])
            self._probes = np.concatenate([self._probes, np.empty_like(self._probes)])
        self._greys[self._count] = grey
        self._probes[self._count] = grey[self._PROBES]
        self._count += 1


def _difference(greys: Greys, grey: Greys) -> Greys:
    worst: Greys = (np.maximum(greys, grey) - np.minimum(greys, grey)).max(axis=1, initial=0)
    return worst


def save_bytes(image: Image.Image, form: str, **options: Any) -> bytes:
    """The image in a file format, as bytes."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


class Studio:
    """Makes pictures that all look different, and rows around them. The same seed makes the same ones."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.gallery = Gallery()
        self._serials = itertools.count()

    def split(self, name: str) -> Studio:
        """A studio with a seed of its own, where no picture resembles one of this studio, nor the other way round."""
        other = Studio(f"{name}/{self.seed}")
        other.gallery, other._serials = self.gallery, self._serials
        return other

    def serial(self) -> int:
        return next(self._serials)

    def picture(self, kind: str, encoder: Encoder | None = None, ending: str = "") -> tuple[Scene, Picture]:
        """A new scene as a file that resembles no earlier one; usual formats unless an encoder is given."""
        serial = self.serial()
        form = self.rng("format", serial).choices(("png", "jpg", "webp"), (80, 14, 6))[0]
        for attempt in range(200):
            scene = draw_scene(kind, f"{self.seed}/{serial}/{attempt}")
            data = encoder(scene.image) if encoder else _usual(scene.image, form)
            grey = grey32(data)
            if not self.gallery.alike(grey):
                self.gallery.add(grey)
                return scene, Picture(data, f"{kind}/{serial:06d}.{ending or form}")
        raise RuntimeError(f"no new scene of kind {kind!r} after 200 attempts: the corpus is too large for its variety")

    def row(self, source: str, kind: str, encoder: Encoder | None = None, ending: str = "") -> Row:
        """A clean row of one image."""
        scene, picture = self.picture(kind, encoder, ending)
        language = self.language(source)
        row = Row(self.serial(), source, subset_of(source, kind), kind, language, (picture,), (), scene=scene)
        return replace(row, turns=self.pick_turns(row, scene.turns[language]))

    def pick_turns(self, row: Row, turns: list[Turn]) -> tuple[Turn, ...]:
        """All the turns in some order, or one of them."""
        rng = self.rng("turns", row.serial)
        shuffled = rng.sample(turns, len(turns))
        return tuple(shuffled if rng.random() < MULTI_TURN_SHARE[row.source] else shuffled[:1])

    def two_image_row(self, source: str) -> Row:
        """A clean row that asks which of two images shows something."""
        first, one = self.picture("single")
        second, two = self.picture("single")
        while first.facts.items() & second.facts.items():
            second, two = self.picture("single")
        language, serial = self.language(source), self.serial()
        turns = which_image(first, second, f"{self.seed}/{serial}")[language]
        return Row(serial, source, subset_of(source, "two_images"), "two_images", language, (one, two), tuple(turns))

    def plain_row(self, source: str, language: str, turn: Turn) -> Row:
        """A clean row without an image."""
        return Row(self.serial(), source, subset_of(source, "plain"), "plain", language, (), (turn,))

    def language(self, source: str) -> str:
        return "ja" if self.rng("language", self.serial()).random() < JAPANESE_SHARE[source] else "en"

    def rng(self, *key: object) -> random.Random:
        return random.Random("/".join(map(str, (self.seed, *key))))


def subset_of(source: str, kind: str) -> str:
    """Only `fine` has subsets."""
    if source != "fine":
        return ""
    return "charts" if kind == "chart" else "shapes"


def _usual(image: Image.Image, form: str) -> bytes:
    if form == "jpg":
        return save_bytes(image, "JPEG", quality=92, subsampling=0)
    return save_bytes(image, "PNG") if form == "png" else save_bytes(image, "WEBP", quality=95)


def clean_rows(studio: Studio, scale: float) -> list[Row]:
    """The good rows of the three sources, following PLAN."""
    plain = {language: iter(plain_questions(language, str(studio.seed))) for language in LANGUAGES}
    rows: list[Row] = []
    for source, _, kinds, one_image, two_images, no_image in PLAN:
        rows += [studio.row(source, kinds[i % len(kinds)]) for i in range(scaled(one_image, scale))]
        rows += [studio.two_image_row(source) for _ in range(scaled(two_images, scale))]
        for _ in range(scaled(no_image, scale)):
            language = studio.language(source)
            rows.append(studio.plain_row(source, language, next(plain[language])))
    return rows


def scaled(count: int, scale: float) -> int:
    return round(count * scale)


def held_out_rows(studio: Studio, scale: float) -> list[Row]:
    """Split by split, one question about each of a few pictures that neither the sources nor the other split hold.

    They are made first: whatever the sources hold does not change them.
    """
    return [row for name in SPLITS for row in _split_rows(studio.split(name), name, scale)]


def _split_rows(studio: Studio, name: str, scale: float) -> list[Row]:
    rows = []
    for i in range(scaled(HELD_OUT, scale)):
        row = studio.row("llava", MIXED[i % len(MIXED)], lambda image: save_bytes(image, "PNG"), "png")
        rows.append(replace(row, source="benchmark", subset=name, turns=row.turns[:1]))
    return rows
