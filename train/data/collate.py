"""One pack of samples -> flat tensors, and the proof that images and image tokens belong together.

Samples lie end to end in one row, without padding. Models only compare the *number* of image tokens with the number
of features; two images swapped, or a tile too few here and one too many there, would train without an error. So the
runs of image tokens are checked image by image before a tensor is made.

Letters in names of shapes: T tokens, N tiles, S side of a tile in pixels, M image tokens, K target tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stages.images.rules import BadImage, open_rgb
from stages.tiles.scheme import Grid
from stages.tiles.table import TileScheme
from train.data import left_out
from train.data.shards import Facts, ImageSpan, Sample

IGNORED = -100
_CURE = f"write the shards again, or {left_out.CURE}"


class CollateError(ValueError):
    """A sample contradicts itself: one line with its sample_id."""


@dataclass(frozen=True)
class Images:
    """The images of one or more samples, tile by tile."""

    tiles: Tensor  # [N, S, S, 3] uint8
    positions: Tensor  # [M] int64, where the ids hold image tokens
    feature_order: Tensor  # [M] int64, which of the tiles' features each of these takes
    last_tiles: Tensor  # int64, of each image the number of its last tile


class Member(NamedTuple):
    """What is told of a sample by name; its targets lie in the pack one after the other, as the samples do."""

    sample_id: str
    source: str
    language: str | None
    tokens: int
    targets: int
    tiles: int


@dataclass(frozen=True)
class Pack:
    """What a model's forward takes. `sample_ends` = [0, end of sample 0, end of sample 1, ...]; `ends` are the same
    numbers for a kernel on the device."""

    input_ids: Tensor  # [1, T] int64
    position_ids: Tensor  # [1, T] int64, restarting at 0 with each sample
    labels: Tensor  # [1, T] int64, IGNORED outside target spans
    images: Images
    target_positions: Tensor  # [K] int64, where labels are not IGNORED
    sample_ends: list[int]
    ends: Tensor  # [samples + 1] int32
    samples: tuple[Member, ...]

    @property
    def tiles(self) -> Tensor:
        return self.images.tiles

    @property
    def image_positions(self) -> Tensor:
        return self.images.positions

    @property
    def num_targets(self) -> int:
        return len(self.target_positions)


def collate(samples: Sequence[Sample], facts: Facts) -> Pack:
    for sample in samples:
        check(sample, facts)
    input_ids = torch.from_numpy(np.concatenate([sample.input_ids for sample in samples]))
    labelled = [_labels(sample) for sample in samples]
    labels = torch.from_numpy(np.concatenate(labelled))
    ends = [0, *np.cumsum([len(sample.input_ids) for sample in samples]).tolist()]
    return Pack(
        input_ids=input_ids[None],
        position_ids=torch.cat([torch.arange(len(sample.input_ids)) for sample in samples])[None],
        labels=labels[None],
        images=images(samples, facts),
        target_positions=(labels != IGNORED).nonzero()[:, 0],
        sample_ends=ends,
        ends=torch.tensor(ends, dtype=torch.int32),
        samples=tuple(map(_member, samples, labelled)),
    )


def _member(sample: Sample, labels: np.ndarray) -> Member:
    tiles = sum(span.grid.num_tiles for span in sample.image_spans)
    targets = int((labels != IGNORED).sum())
    return Member(sample.sample_id, sample.source, sample.language, len(labels), targets, tiles)


def images(samples: Sequence[Sample], facts: Facts) -> Images:
    """The images of samples that lie end to end."""
    ids = np.concatenate([sample.input_ids for sample in samples])
    grids = [span.grid for sample in samples for span in sample.image_spans]
    return placed(ids, grids, cut_tiles(samples, facts.scheme), facts)


def placed(ids: np.ndarray, grids: Sequence[Grid], tiles: np.ndarray, facts: Facts) -> Images:
    """The tiles of images, one image after the other, and their places in the ids that hold them."""
    ends = np.cumsum([0, *(grid.num_tiles for grid in grids)])
    orders = [facts.scheme.feature_order(grid, int(start)) for grid, start in zip(grids, ends[:-1], strict=True)]
    return Images(
        tiles=torch.from_numpy(tiles),
        positions=torch.from_numpy((ids == facts.image_token_id).nonzero()[0]),
        feature_order=torch.from_numpy(np.concatenate([np.empty(0, np.int64), *orders])),
        last_tiles=torch.from_numpy(ends[1:] - 1),
    )


def cut_tiles(samples: Sequence[Sample], scheme: TileScheme) -> np.ndarray:
    """uint8 [N, S, S, 3], in the order of the image tokens."""
    tiles = scheme.room(sum(span.grid.num_tiles for sample in samples for span in sample.image_spans))
    start = 0
    for sample in samples:
        for number, span in enumerate(sample.image_spans):
            end = start + span.grid.num_tiles
            scheme.cut_into(tiles[start:end], _opened(sample, number), span.grid)
            start = end
    return tiles


def _opened(sample: Sample, number: int) -> Image.Image:
    try:
        return open_rgb(sample.images[number])
    except BadImage as error:
        raise CollateError(f"{sample.sample_id} image {number}: {error}; {_CURE}") from None


def _labels(sample: Sample) -> np.ndarray:
    labels = np.full(len(sample.input_ids), IGNORED, np.int64)
    for start, end in sample.target_spans:
        labels[start:end] = sample.input_ids[start:end]
    labels[sample.label_changes[:, 0]] = sample.label_changes[:, 1]
    return labels


def check(sample: Sample, facts: Facts) -> None:
    """Raise CollateError unless the model has every token, targets lie inside the sample, and every image owns exactly
    the tokens of its grid."""
    length, spans = len(sample.input_ids), sample.target_spans
    if not length or sample.input_ids.min() < 0 or sample.input_ids.max() >= facts.vocab_size:
        lowest, highest = (sample.input_ids.min(), sample.input_ids.max()) if length else ("none", "none")
        raise CollateError(
            f"{sample.sample_id}: {length} token ids from {lowest} to {highest}, the vocabulary has "
            f"{facts.vocab_size}; {_CURE}"
        )
    if len(spans) and not (spans.min() >= 1 and spans.max() <= length):
        raise CollateError(f"{sample.sample_id}: target spans {spans.tolist()} leave [1, {length}]; {_CURE}")
    _check_changes(sample, facts)
    if len(sample.images) != len(sample.image_spans):
        raise CollateError(
            f"{sample.sample_id}: {len(sample.images)} images, tiles of {len(sample.image_spans)}; {_CURE}"
        )
    is_image = sample.input_ids == facts.image_token_id
    for number, span in enumerate(sample.image_spans):
        _check_image(f"{sample.sample_id} image {number}", is_image, span, facts)
    owned = sum(_num_images(span, facts) for span in sample.image_spans)
    if is_image.sum() != owned:
        raise CollateError(f"{sample.sample_id}: {is_image.sum()} image tokens, its grids make {owned}; {_CURE}")


def _check_changes(sample: Sample, facts: Facts) -> None:
    """Only targets have labels that can change, each once, to a token that the model has."""
    if not len(sample.label_changes):
        return
    at, labels = sample.label_changes.T
    targets = np.concatenate([at[:0], *(np.arange(start, end) for start, end in sample.target_spans)])
    once, known = len(np.unique(at)) == len(at), ((labels >= 0) & (labels < facts.vocab_size)).all()
    if not (once and known and np.isin(at, targets).all()):
        raise CollateError(
            f"{sample.sample_id}: label changes {sample.label_changes.tolist()} are not of targets to tokens of "
            f"{facts.vocab_size}; {_CURE}"
        )


def _check_image(name: str, is_image: np.ndarray, span: ImageSpan, facts: Facts) -> None:
    got, wanted = int(is_image[span.start : span.start + span.num_tokens].sum()), _num_images(span, facts)
    if got != wanted:
        raise CollateError(f"{name}: its range holds {got} image tokens, its grid makes {wanted}; {_CURE}")


def _num_images(span: ImageSpan, facts: Facts) -> int:
    return facts.tokens.num_images(facts.scheme.runs(span.grid, span.width, span.height))
