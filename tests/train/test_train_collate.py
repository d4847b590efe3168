"""A pack holds exactly what its samples say, and a sample that contradicts itself never becomes a tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stages.images.rules import open_rgb
from train.data.collate import IGNORED, CollateError, collate
from train.data.shards import Sample, Shards


@pytest.fixture(scope="module")
def opened(shards):
    return Shards(shards)


@pytest.fixture(scope="module")
def samples(opened) -> list[Sample]:
    return [opened.sample(number) for number in range(10)]


def test_a_pack_is_its_samples_end_to_end(samples, opened):
    pack = collate(samples, opened.facts)
    ends = pack.sample_ends
    assert ends[-1] == pack.input_ids.shape[1] == sum(len(sample.input_ids) for sample in samples)
    for sample, start, end in zip(samples, ends, ends[1:], strict=False):
        assert pack.input_ids[0, start:end].tolist() == sample.input_ids.tolist()
        assert pack.position_ids[0, start:end].tolist() == list(range(end - start))


def test_labels_are_the_target_tokens_and_nothing_else(samples, opened):
    pack = collate(samples, opened.facts)
    for sample, start, end in zip(samples, pack.sample_ends, pack.sample_ends[1:], strict=False):
        targets = {at for first, last in sample.target_spans for at in range(first, last)}
        wanted = [token if at in targets else IGNORED for at, token in enumerate(sample.input_ids)]
        assert pack.labels[0, start:end].tolist() == wanted
    assert pack.num_targets == sum(int(last - first) for s in samples for first, last in s.target_spans)
    assert (pack.labels[0, pack.target_positions] != IGNORED).all()


def test_tiles_follow_the_order_of_the_image_tokens(samples, opened):
    pack = collate(samples, opened.facts)
    scheme = opened.facts.scheme
    wanted = [
        scheme.cut(open_rgb(image), span.grid)
        for sample in samples
        for image, span in zip(sample.images, sample.image_spans, strict=True)
    ]
    assert torch.equal(pack.tiles, torch.from_numpy(np.concatenate(wanted)))
    assert pack.tiles.dtype == torch.uint8
    assert len(pack.image_positions) == len(pack.tiles) * scheme.tokens_per_tile
    assert (pack.input_ids[0, pack.image_positions] == opened.facts.image_token_id).all()


def test_text_alone_makes_an_empty_stack_of_tiles(samples, opened):
    pack = collate([sample for sample in samples if not sample.images], opened.facts)
    assert pack.tiles.shape == (0, 16, 16, 3) and len(pack.image_positions) == 0


def with_two_pictures(samples: list[Sample]) -> Sample:
    """A sample whose two images have different numbers of tiles."""
    return next(s for s in samples if len({span.grid.num_tiles for span in s.image_spans}) > 1)


def test_swapped_images_are_refused_although_the_total_is_right(samples, opened):
    sample = with_two_pictures(samples)
    grids = [span.grid for span in sample.image_spans]
    spans = tuple(replace(span, grid=grid) for span, grid in zip(sample.image_spans, grids[::-1], strict=True))
    with pytest.raises(CollateError, match=rf"{sample.sample_id} image 0: its range holds \d+ image tokens"):
        collate([replace(sample, image_spans=spans)], opened.facts)


def test_a_stray_image_token_is_refused(samples, opened):
    sample = samples[0]
    ids = np.append(sample.input_ids, opened.facts.image_token_id)
    with pytest.raises(CollateError, match=r"image tokens, its grids make"):
        collate([replace(sample, input_ids=ids)], opened.facts)


def test_a_missing_image_is_refused(samples, opened):
    sample = with_two_pictures(samples)
    with pytest.raises(CollateError, match="1 images, tiles of 2"):
        collate([replace(sample, images=sample.images[:1])], opened.facts)


@pytest.mark.parametrize("span", [(0, 2), (3, 10_000)])
def test_targets_that_leave_the_sample_are_refused(samples, opened, span):
    """A target at position 0 would be predicted from the sample before it."""
    with pytest.raises(CollateError, match=r"target spans .* leave \[1, "):
        collate([replace(samples[0], target_spans=np.array([span]))], opened.facts)


def test_a_picture_is_seen_through_the_stored_grid(samples, opened):
    """The red of a red picture arrives in every one of its tiles."""
    pack = collate([samples[0]], opened.facts)
    colour = Image.fromarray(pack.tiles[0].numpy()).getpixel((5, 5))
    assert (pack.tiles == torch.tensor(colour, dtype=torch.uint8)).all()
