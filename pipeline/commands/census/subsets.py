"""An estimate from a table of subsets (FineVision's, say), where the data itself is not here.

The table says how many images, samples, turns and tokens of answers a subset has; all else is assumed, and every
assumption is a key of a YAML file with a default, printed with the result. What the model recipe decides is not assumed
but asked of it: the tokens around a turn, those that bear loss there, and the tokens and tiles of an image of a size.

  text    = answer_tokens x tokens_per_answer_token + turns x question_tokens
            + turns, samples and images x what the layout puts around each
  targets = answer_tokens x tokens_per_answer_token + turns x targets in the frame of a turn
  image   = images x mean tokens of an image over `image_sizes`, by their shares; tiles likewise

A turn of the table is a question with its answer. Nothing is dropped: how long single samples are, no table says.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from schemas import strict, yaml_file
from schemas.strict import RecipeError, brief
from stages.census import Amount, Group, Place, Tally
from stages.chat import ChatFormat, Encoded, TemplateRefuses
from stages.shard_rows import PretokeniseParams
from stages.tiles.scheme import NoGrid

COLUMNS = ("subset", "images", "samples", "turns", "answer_tokens")


@dataclass(frozen=True)
class ImageSize:
    """Images of so many pixels; `share`: how many there are of them beside those of the other sizes."""

    width: int
    height: int
    share: float = 1.0

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or self.share <= 0:
            raise ValueError(f"got {self.width} x {self.height}, share {self.share}; wanted sides and a share above 0")


@dataclass(frozen=True)
class Assumptions:
    """What no table says.

    question_tokens          of one turn
    tokens_per_answer_token  how many tokens of the recipe's tokenizer one token of the table's is
    image_sizes              the sizes that stand for all images
    """

    question_tokens: float = 20.0
    tokens_per_answer_token: float = 1.0
    image_sizes: tuple[ImageSize, ...] = (
        ImageSize(640, 480, 0.5),
        ImageSize(1024, 768, 0.3),
        ImageSize(850, 1100, 0.2),
    )

    def __post_init__(self) -> None:
        if self.question_tokens < 0 or self.tokens_per_answer_token <= 0:
            raise ValueError("question_tokens must be at least 0 and tokens_per_answer_token above 0")
        if not self.image_sizes:
            raise ValueError("image_sizes: empty; name at least one")

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "image_sizes": [asdict(size) for size in self.image_sizes]}


@dataclass(frozen=True)
class Subset:
    """A row of the table."""

    subset: str
    images: int
    samples: int
    turns: int
    answer_tokens: int


@dataclass(frozen=True)
class Frame:
    """The tokens that a layout puts around texts: of a sample, of each turn, how many of the turn's bear loss, and
    beside an image.

    `questions`: whether the layout has the questions at all (LLaVA's first stage leaves them out).
    """

    sample: int
    turn: int
    targets: int
    image: int
    questions: bool


def assumptions(path: Path | None) -> Assumptions:
    """Those of a file, or the defaults. Raises RecipeError."""
    return Assumptions() if path is None else strict.build(Assumptions, yaml_file.read(path))


def table(path: Path) -> list[Subset]:
    """The rows of a CSV file. Raises RecipeError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream, strict=True)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise RecipeError(f"{path}: no column {missing[0]!r}; wanted {', '.join(COLUMNS)}")
            found = [_subset(path, rows.line_num, row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecipeError(f"{path}: can't be read ({error})") from None
    if twice := [name for name, number in Counter(row.subset for row in found).items() if number > 1]:
        raise RecipeError(f"{path}: the subset {brief(twice[0])} has two rows; keep one")
    return found


def _subset(path: Path, line: int, row: dict[str, str | None]) -> Subset:
    numbers = {}
    for name in COLUMNS[1:]:
        text = (row[name] or "").strip()
        if not (text.isascii() and text.isdigit()):
            raise RecipeError(f"{path} line {line}: {name}: got {brief(text)!r}, wanted a whole number from 0 on")
        numbers[name] = int(text)
    return Subset(str(row["subset"]), **numbers)


def frame_of(chat: ChatFormat) -> Frame:
    """What the layout of a chat adds, measured on conversations whose texts are empty.

    Where a layout has one turn and no more, each counts as a sample of its own.
    """
    one = chat.encode(_turns(1, ""), [])
    try:
        two = chat.encode(_turns(2, ""), [])
        turn, bearing = len(two.input_ids) - len(one.input_ids), _targets(two) - _targets(one)
    except TemplateRefuses:
        turn, bearing = len(one.input_ids), _targets(one)
    shown = chat.encode(_turns(1, "", 1), [1])
    image = len(shown.input_ids) - shown.image_spans[0][1] - len(one.input_ids)
    asked = len(chat.encode(_turns(1, "Why?"), []).input_ids) > len(one.input_ids)
    return Frame(len(one.input_ids) - turn, turn, bearing, image, asked)


def _targets(encoded: Encoded) -> int:
    return sum(end - start for start, end in encoded.target_spans)


def estimate(subsets: list[Subset], assumed: Assumptions, chat: ChatFormat, params: PretokeniseParams) -> Tally:
    """A tally with the subsets in the place of sources; exact arithmetic, rounded once for each subset.

    Raises RecipeError for a size that the scheme refuses.
    """
    tally, frame = Tally(), frame_of(chat)
    for row in subsets:
        tally.groups[Place(row.subset, None)] = Group(_amount(row, assumed, frame, chat, params))
    return tally


def _amount(row: Subset, assumed: Assumptions, frame: Frame, chat: ChatFormat, params: PretokeniseParams) -> Amount:
    answers = row.answer_tokens * Fraction(str(assumed.tokens_per_answer_token))
    question = Fraction(str(assumed.question_tokens)) * frame.questions
    frames = row.turns * frame.turn + row.samples * frame.sample + row.images * frame.image
    text = round(answers + row.turns * question) + frames
    together = round(Fraction(row.images, row.samples)) if row.samples else 0
    tokens, tiles = _image(assumed, max(1, together), text // max(1, row.samples), chat, params)
    image = round(row.images * tokens)
    return Counter(
        samples=row.samples,
        rows=row.samples,
        num_tokens=text + image,
        num_text_tokens=text,
        num_image_tokens=image,
        num_target_tokens=round(answers + row.turns * frame.targets),
        num_tiles=round(row.images * tiles),
    )


def _image(
    assumed: Assumptions, together: int, text: int, chat: ChatFormat, params: PretokeniseParams
) -> tuple[Fraction, Fraction]:
    """Mean tokens and tiles of an image in a sample of so many images and tokens of text."""
    shares = [Fraction(str(size.share)) for size in assumed.image_sizes]
    found = list(_by_size(assumed, together, text, chat, params))
    tokens = sum((share * one[0] for share, one in zip(shares, found, strict=True)), Fraction())
    tiles = sum((share * one[1] for share, one in zip(shares, found, strict=True)), Fraction())
    return tokens / sum(shares), tiles / sum(shares)


def _by_size(
    assumed: Assumptions, together: int, text: int, chat: ChatFormat, params: PretokeniseParams
) -> Iterator[tuple[Fraction, Fraction]]:
    for size in assumed.image_sizes:
        sides = (size.width, size.height)
        try:
            grids = params.tiles.grids_of([sides] * together, lambda: text)
        except NoGrid as error:
            raise RecipeError(f"image_sizes: {size.width} x {size.height}: {error}") from None
        runs = [params.tiles.runs(grid, *sides) for grid in grids]
        spans = chat.encode(_turns(1, "", together), runs).image_spans
        tokens = sum(length for _, length in spans)
        yield Fraction(tokens, together), Fraction(sum(grid.num_tiles for grid in grids), together)


def _turns(number: int, question: str, images: int = 0) -> list[dict[str, Any]]:
    """Questions with empty answers; the first one is about so many images."""
    said = [("user", question), ("assistant", "")] * number
    turns: list[dict[str, Any]] = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]
    turns[0]["content"][:0] = [{"type": "image", "text": None}] * images
    return turns
