"""One sample -> its rows of the shard under a model recipe, from its text and the sizes of its images.

A model recipe is a tile scheme, the tokens of an image, a chat layout with its labels, and what becomes of a
conversation that is too long. Nothing here sees an image: of each, (width, height) is enough. What can be counted by
this is exact, so pretokenise and the census are one thing. Nothing is truncated: an over-long conversation is dropped,
or cut between its rounds into several rows (stages/split.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from stages import split
from stages.chat import ChatFormat, ImageTokens, TemplateRefuses
from stages.chat_pieces import Joined
from stages.chat_rules import ChatRules
from stages.conversation import Conversation
from stages.plain_text import ControlText
from stages.tiles.internvl import InternVL
from stages.tiles.scheme import Grid, NoGrid
from stages.tiles.table import TileScheme


@dataclass(frozen=True)
class PretokeniseParams:
    """How images become tiles and tokens, and turns a chat with labels; the longest sample that stays.

    shard_bytes    how large a shard may be: a new one begins before it is passed; only a batch (of up to 128 rows and
                   1 MiB) or a row that is larger makes a larger one
    keep_messages  whether the shards hold, beside the ids, what they were made of
    """

    tiles: TileScheme = field(default_factory=InternVL)
    tokens: ImageTokens = field(default_factory=ImageTokens)
    chat: ChatRules = field(default_factory=ChatRules)
    max_tokens: int = 8192
    too_long: Literal["drop", "split"] = "drop"
    shard_bytes: int = 512 * 1024 * 1024
    keep_messages: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens: got {self.max_tokens}, wanted at least 1")
        if self.shard_bytes < 1:
            raise ValueError(f"shard_bytes: got {self.shard_bytes}, wanted at least 1")
        for kind in sorted(self.tiles.needs):
            if getattr(self.tokens, kind) is None:
                raise ValueError(
                    f"tokens.{kind}: missing; the tile scheme {self.tiles.scheme} puts such tokens into images"
                )


# How many times too long a sample is whose tokens need not be counted to say so
_FAR = 2


class Dropped(Exception):
    """A sample this stage drops."""

    def __init__(self, reason: str, detail: str | None = None, num_tokens: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.num_tokens = reason, detail, num_tokens


def rows_of(
    row: Mapping[str, Any], chat: ChatFormat, params: PretokeniseParams
) -> tuple[list[dict[str, Any]], str | None]:
    """A sample's row, or those of its pieces where it is too long and the recipe says so, and what to say of them.

    `row`: SAMPLE's fields, and as `images` a number for each, by which its row tells which it has: those of ROWS that
    this gives are all but `sample` and what is known of it beside its text and images.
    Raises Dropped.
    """
    try:
        return [_encode(row, chat, params)], None
    except Dropped as drop:
        if drop.reason != "too_long" or params.too_long == "drop":
            raise
        why = drop
    try:
        made = split.pieces(row, lambda piece: _if_it_fits(piece, chat, params))
    except split.RoundTooLong as error:
        raise Dropped("too_long", f"{why.detail}; {error}", why.num_tokens) from None
    named = [{**one, "sample_id": split.piece_id(row["sample_id"], n, len(made))} for n, one in enumerate(made, 1)]
    if not (bearing := [one for one in named if one["target_spans"]]):
        raise Dropped("no_target", None, sum(one["num_tokens"] for one in named))
    left = len(named) - len(bearing)
    return bearing, f"{left} of {len(named)} pieces without a target left out" if left else None


def _if_it_fits(piece: Mapping[str, Any], chat: ChatFormat, params: PretokeniseParams) -> dict[str, Any] | None:
    try:
        return _encode(piece, chat, params, targets=False)
    except Dropped as drop:
        if drop.reason == "too_long":
            return None
        raise


def _encode(
    row: Mapping[str, Any], chat: ChatFormat, params: PretokeniseParams, targets: bool = True
) -> dict[str, Any]:
    """A row of the shard. Raises Dropped; `targets`: for one without any, too."""
    sizes = [(info["width"], info["height"]) for info in row["image_info"]]
    try:
        talk = chat.conversation(row["messages"])
        _refuse_far_too_long(talk, [], params)
        grids = params.tiles.grids_of(sizes, lambda: talk.count_text(prompt=False))
        images = [chat.image_ids(params.tiles.runs(grid, *size)) for grid, size in zip(grids, sizes, strict=True)]
        if images:
            _refuse_far_too_long(talk, images, params)
        encoded = talk.encode(images, prompt=False)
    except NoGrid as error:
        raise Dropped("no_grid", str(error)) from None
    except TemplateRefuses as error:
        raise Dropped("template_refuses", str(error)) from None
    except ControlText as error:
        raise Dropped("control_text", str(error)) from None
    num_tokens = encoded.length
    if num_tokens > params.max_tokens:
        raise Dropped("too_long", f"{num_tokens:,} tokens, at most {params.max_tokens:,}", num_tokens)
    if targets and not encoded.target_spans:
        raise Dropped("no_target", None, num_tokens)
    return {
        "sample_id": row["sample_id"],
        "source": row["source"],
        "input_ids": encoded.array(),
        "target_spans": encoded.target_spans,
        "label_changes": [{"position": position, "id": label} for position, label in encoded.label_changes],
        "image_numbers": list(row["images"]),
        "image_sha256": [info["sha256"] for info in row["image_info"]],
        "tiles": _tiles(sizes, grids, encoded, params.tiles.scheme),
        **_counts(encoded, grids),
        "messages": row["messages"] if params.keep_messages else None,
    }


def _refuse_far_too_long(talk: Conversation, images: Sequence[np.ndarray], params: PretokeniseParams) -> None:
    if (least := talk.surely_beyond(_FAR * params.max_tokens, images)) is not None:
        raise Dropped("too_long", f"at least {least:,} tokens, at most {params.max_tokens:,}")


def _tiles(
    sizes: list[tuple[int, int]], grids: list[Grid], encoded: Joined, scheme: str
) -> list[dict[str, int | str | bool]]:
    return [
        {
            "scheme": scheme,
            "rows": grid.rows,
            "cols": grid.cols,
            "thumbnail": grid.thumbnail,
            "width": width,
            "height": height,
            "start": start,
            "num_tokens": length,
        }
        for (width, height), grid, (start, length) in zip(sizes, grids, encoded.image_spans, strict=True)
    ]


def _counts(encoded: Joined, grids: list[Grid]) -> dict[str, int]:
    num_image_tokens = sum(length for _, length in encoded.image_spans)
    return {
        "num_tokens": encoded.length,
        "num_text_tokens": encoded.length - num_image_tokens,
        "num_image_tokens": num_image_tokens,
        "num_target_tokens": sum(end - start for start, end in encoded.target_spans),
        "num_tiles": sum(grid.num_tiles for grid in grids),
    }
