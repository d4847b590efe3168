"""The same picture after light edits is near, another of its template is far: by signature, and by the files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from stages.filters import same_picture
from stages.filters.image_match import LOOK, OTHER, SAME, Match, Pictures, judged, same_unseen
from stages.images.rules import BadImage, inspect
from tests.stages.pictures import bar_chart, encoded, photo

PHOTO = photo(3, 640, 480)


def page(total: str, first: int = 0) -> Image.Image:
    """A page of numbers with one sum in it."""
    image = Image.new("RGB", (600, 800), "white")
    draw = ImageDraw.Draw(image)
    for line in range(30):
        row = " ".join(f"{(first + line * 7919 + n * 104729) % 9973:05}" for n in range(8))
        draw.text((40, 40 + 24 * line), total if line == 17 else row, "black", font_size=16)
    return image


def pictures(*files: bytes) -> Pictures:
    return Pictures.of([asdict(inspect(data, 10**8)) for data in files])


def verdict(left: bytes, right: bytes, mark: float = 0) -> int:
    both = pictures(left, right)
    one, other = both.take(slice(0, 1)), both.take(slice(1, 2))
    (found,), (rest,) = judged(one, other, Match(mark=mark))
    assert (found, rest) == tuple(column[0] for column in judged(other, one, Match(mark=mark)))  # whichever comes first
    return int(found)


def same(left: bytes, right: bytes, mark: float = 0) -> bool:
    """As dedupe decides."""
    found = verdict(left, right, mark)
    if found != LOOK:
        return found == SAME
    return same_picture.distance_of(same_picture.Opened(left), same_picture.Opened(right), mark) <= Match().leeway


EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda image: encoded(image, "JPEG", quality=30),
    "small": lambda image: encoded(image.resize((image.width // 4, image.height // 4), Image.Resampling.LANCZOS)),
    "large": lambda image: encoded(image.resize((image.width * 2, image.height * 2)), "JPEG"),
    "crop": lambda image: encoded(image.crop((12, 9, image.width - 15, image.height - 5)), "JPEG", quality=90),
    "darker": lambda image: encoded(ImageEnhance.Brightness(image).enhance(0.8), "JPEG", quality=90),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.2), "JPEG", quality=90),
    "faint": lambda image: encoded(ImageEnhance.Contrast(image).enhance(0.8), "JPEG", quality=90),
    "grey": lambda image: encoded(image.convert("L"), "WEBP"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_light_edits_leave_the_same_picture(edit: str) -> None:
    assert same(encoded(PHOTO), EDITS[edit](PHOTO))
    original, edited = encoded(page("total 48213")), EDITS[edit](page("total 48213"))
    assert verdict(original, edited) == LOOK
    assert same_picture.distance(original, edited) < Match().leeway


@pytest.mark.parametrize("other", ["total 48218", "total 48123", "total 43213"])
def test_another_digit_is_another_page(other: str) -> None:
    one, changed = page("total 48213"), page(other)
    for format in ("PNG", "JPEG"):  # of one template, untouched: the signature tells
        assert verdict(encoded(one, format), encoded(changed, format)) == OTHER
    for edit in ("jpeg", "crop", "darker"):  # re-encoded: the files tell
        assert same_picture.distance(encoded(one), EDITS[edit](changed)) > Match().leeway


def test_a_bar_of_another_height_is_another_chart() -> None:
    one, other = bar_chart([20, 50, 80, 40]), bar_chart([20, 53, 80, 40])
    assert verdict(encoded(one), encoded(other)) == OTHER
    assert same_picture.distance(encoded(one), EDITS["jpeg"](other)) > Match().leeway


@pytest.mark.parametrize("colour", ["blue", (230, 40, 40), (40, 80, 130), (70, 200, 60)])
def test_a_shape_of_another_colour_is_another_picture(colour: str) -> None:
    one, other = (Image.new("RGB", (300, 200), "white") for _ in range(2))
    ImageDraw.Draw(one).rectangle((60, 40, 180, 150), (20, 30, 25))
    ImageDraw.Draw(other).rectangle((60, 40, 180, 150), colour)
    assert same_picture.distance(encoded(one), encoded(other, "JPEG")) > Match().leeway


def test_a_shape_that_moved_is_another_picture() -> None:
    one, other = (Image.new("RGB", (300, 200), "white") for _ in range(2))
    ImageDraw.Draw(one).rectangle((60, 40, 180, 150), "navy")
    ImageDraw.Draw(other).rectangle((69, 40, 189, 150), "navy")
    assert same_picture.distance(encoded(one), encoded(other, "JPEG")) > Match().leeway


def test_a_page_of_other_numbers_in_the_same_layout_is_another_page() -> None:
    """Their signatures tell, if they are of one size; of two sizes, their files."""
    one, other = page("total", 0), page("total", 555)
    for format in ("PNG", "JPEG"):
        assert verdict(encoded(one), encoded(other, format)) == OTHER
    assert verdict(encoded(one), EDITS["small"](other)) == LOOK
    back = one.crop((12, 9, 590, 790)).resize(one.size)
    assert verdict(encoded(one), encoded(back, "JPEG")) == LOOK  # cropped, and made as large as it was


def test_a_page_of_other_numbers_is_another_page() -> None:
    """All of it differs: that is no noise, however evenly it is spread."""
    assert same_picture.distance(encoded(page("total", 0)), encoded(page("total", 555))) > 4


def marked(image: Image.Image) -> Image.Image:
    changed = image.copy()
    ImageDraw.Draw(changed).rectangle((image.width - 60, image.height - 40, image.width - 10, image.height - 10), "red")
    return changed


@pytest.mark.parametrize(
    ("image", "mark", "expected"), [(PHOTO, 0, False), (PHOTO, 0.03, True), (page("a"), 0.03, False)]
)
def test_a_mark_in_a_corner_may_be_on_a_photograph_where_the_recipe_says_so(
    image: Image.Image, mark: float, expected: bool
) -> None:
    assert same(encoded(image, "JPEG"), encoded(marked(image), "JPEG"), mark) is expected


def test_a_mark_is_one_on_photographs_only_whatever_the_recipe_says() -> None:
    """Saved again, so that the signature leaves it to the files."""
    for image, expected in ((PHOTO, True), (page("a"), False)):
        left, right = (same_picture.Opened(data) for data in (encoded(image), EDITS["jpeg"](marked(image))))
        assert (same_picture.distance_of(left, right, 0.03) <= Match().leeway) is expected


def screen(ground: Image.Image, value: int) -> bytes:
    """A dozen lines, straight on a ground without a frequent colour."""
    draw = ImageDraw.Draw(ground)
    for line in range(12):
        number = value if line == 6 else 4000 + line * 37
        draw.text((60, 40 + 50 * line), f"Setting number {line}: value {number}", "white", font_size=24)
    return encoded(ground, "JPEG", quality=90)


@pytest.mark.parametrize("ground", ["gradient", "photograph"])
def test_a_window_on_a_wallpaper_whose_number_differs_is_another(ground: str) -> None:
    """Next to nothing of the picture differs, and no colour is frequent: only the files tell."""

    def wallpaper() -> Image.Image:
        if ground == "photograph":
            return photo(5, 1000, 700)
        y, x = np.mgrid[:700, :1000]
        return Image.fromarray(np.stack([60 + x / 10, 90 + y / 7, 160 + (x + y) / 20], -1).astype(np.uint8))

    one, other = screen(wallpaper(), 4221), screen(wallpaper(), 4228)
    assert verdict(one, other) == LOOK and not same(one, other)
    again = encoded(Image.open(io.BytesIO(one)), "JPEG", quality=60)
    assert same(one, again) and not same(again, other)


def test_photographs_saved_again_need_no_look_where_the_recipe_says_that_they_are_photographs() -> None:
    one, again = encoded(PHOTO), EDITS["jpeg"](PHOTO)
    assert verdict(one, again) == LOOK and verdict(one, again, mark=0.03) == SAME
    assert verdict(encoded(page("a")), EDITS["jpeg"](page("a")), mark=0.03) == LOOK


def test_pictures_without_an_edge_are_told_apart_by_their_files() -> None:
    """Waves whose direction differs by little look the same at 32 x 32, where they are a sixth of a wave apart."""
    y, x = np.mgrid[:360, :480] / 60

    def waves(turn: float) -> Image.Image:
        planes = [np.sin(1.9 * x + turn * y + k) * np.cos(1.1 * y) for k in range(3)]
        return Image.fromarray((np.stack(planes, -1) * 100 + 128).astype(np.uint8))

    one, other = encoded(waves(0.0), "JPEG"), encoded(waves(0.06), "JPEG")
    assert verdict(one, other) == LOOK and not same(one, other)
    assert same(one, encoded(waves(0.0).crop((10, 8, 470, 350)), "JPEG"))


def test_another_photograph_is_another() -> None:
    assert verdict(encoded(PHOTO), encoded(photo(4, 640, 480))) == OTHER


def test_a_crop_is_explained_by_where_it_lies_and_little_is_left_over() -> None:
    """Of which nobody told: found from the pictures."""
    both = pictures(encoded(PHOTO), EDITS["crop"](PHOTO))
    _, (rest,) = judged(both.take(slice(0, 1)), both.take(slice(1, 2)), Match())
    assert rest < 0.1


def test_black_is_not_white() -> None:
    blank = [encoded(Image.new("RGB", (300, 200), colour)) for colour in ("black", "white", (250, 250, 250))]
    assert verdict(blank[0], blank[1]) == OTHER
    assert verdict(blank[1], blank[2]) == LOOK and same_picture.distance(blank[1], blank[2]) < 1


def test_the_distance_is_the_same_when_swapped() -> None:
    one, other = encoded(page("total 1")), EDITS["crop"](page("total 2"))
    assert same_picture.distance(one, other) == same_picture.distance(other, one)
    assert same_picture.distance(one, one) == 0


def test_pictures_of_a_few_pixels_are_compared() -> None:
    dot, line = encoded(Image.new("L", (1, 1))), encoded(Image.new("L", (3, 900)))
    assert same_picture.distance(dot, dot) == 0 and same_picture.distance(line, line) == 0


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(BadImage, match="image_unreadable"):
        same_picture.distance(encoded(PHOTO), b"nothing")


def test_drawn_pictures_match_without_their_files_only_if_little_is_left_over() -> None:
    """A page with a faint stroke: no more than a bad crop leaves at 32 x 32."""
    one, other = page("total"), page("total")
    ImageDraw.Draw(other).rectangle((430, 500, 450, 790), (200, 200, 200))
    near = pictures(encoded(one, "JPEG"), encoded(one), EDITS["jpeg"](other))
    first, again, changed = (near.take(slice(n, n + 1)) for n in range(3))
    assert judged(first, changed, Match())[0] == LOOK and not same_unseen(first, changed)[0]
    assert judged(first, again, Match())[0] == LOOK and same_unseen(first, again)[0]


def small(left: int = 12, colour: str = "red") -> Image.Image:
    image = Image.new("RGB", (64, 64), (235, 240, 235))
    ImageDraw.Draw(image).rectangle((left, 20, left + 30, 50), colour)
    return image


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (encoded(small(), "JPEG", quality=60), True),
        (encoded(small().resize((128, 128))), True),
        (encoded(small(left=14)), False),
        (encoded(small(colour="#0c8a0c")), False),  # as light as the red
    ],
    ids=["saved again", "larger", "moved by two pixels", "of another colour"],
)
def test_small_pictures_are_compared_by_all_they_have(other: bytes, same: bool) -> None:
    assert (same_picture.distance(encoded(small()), other) <= Match().leeway) is same
