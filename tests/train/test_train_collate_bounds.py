"""What a sample may claim about itself, at the last token that is still allowed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stages.tiles.internvl import Grid
from train.data.collate import IGNORED, CollateError, collate
from train.data.shards import Sample, Shards


@pytest.fixture(scope="module")
def opened(shards):
    return Shards(shards)


@pytest.fixture(scope="module")
def pair(opened) -> Sample:
    """A sample of two pictures with different numbers of tiles."""
    samples = (opened.sample(number) for number in range(10))
    return next(s for s in samples if len({span.grid.num_tiles for span in s.image_spans}) > 1)


def spans(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, np.int64).reshape(-1, 2)


def test_targets_may_begin_at_the_second_token_and_end_with_the_last(opened, pair):
    length = len(pair.input_ids)
    pack = collate([replace(pair, target_spans=spans((1, 3), (length - 1, length)))], opened.facts)
    assert pack.target_positions.tolist() == [1, 2, length - 1]
    assert pack.labels[0, [1, 2, -1]].tolist() == pair.input_ids[[1, 2, -1]].tolist()
    assert (pack.labels[0] != IGNORED).sum() == 3


def test_a_sample_without_targets_is_a_sample(opened, pair):
    pack = collate([replace(pair, target_spans=spans())], opened.facts)
    assert pack.num_targets == 0 and (pack.labels == IGNORED).all()


@pytest.mark.parametrize("wrong", [(0, 2), (-1, 2), (5, None)])
@pytest.mark.parametrize("first", [True, False])
def test_one_span_that_leaves_the_sample_is_enough(opened, pair, wrong, first):
    length = len(pair.input_ids)
    wrong = (wrong[0], length + 1 if wrong[1] is None else wrong[1])
    both = spans(wrong, (4, 5)) if first else spans((4, 5), wrong)
    with pytest.raises(CollateError, match=rf"^{pair.sample_id}: target spans .* leave \[1, {length}\]"):
        collate([replace(pair, target_spans=both)], opened.facts)


def test_a_target_may_be_labelled_as_another_token(opened, pair):
    changed = replace(pair, target_spans=spans((1, 3), (5, 8)), label_changes=spans((2, 0), (7, 3)))
    pack = collate([pair, changed], opened.facts)
    start, ids = len(pair.input_ids), pair.input_ids
    assert pack.labels[0, start:][[1, 2, 5, 6, 7]].tolist() == [ids[1], 0, ids[5], ids[6], 3]
    assert pack.labels[0, :start].tolist() == collate([pair], opened.facts).labels[0].tolist()
    assert (pack.num_targets - collate([pair], opened.facts).num_targets) == 5
    assert pack.input_ids[0, start:].tolist() == ids.tolist()


@pytest.mark.parametrize("change", [(3, 1), (0, 1), (-1, 1), (2, -100), (2, -1), (2, 10_000)])
def test_a_label_that_is_none_of_a_target_or_no_token_is_refused(opened, pair, change):
    for changes in (spans(change), spans((1, 1), change), spans((1, 1), (1, 2))):
        with pytest.raises(CollateError, match=rf"^{pair.sample_id}: label changes .* are not of targets"):
            collate([replace(pair, target_spans=spans((1, 3)), label_changes=changes)], opened.facts)


def moved(pair: Sample, **changes: int) -> Sample:
    """The sample with its second picture's span changed."""
    one, two = pair.image_spans
    return replace(
        pair, image_spans=(one, replace(two, **{name: getattr(two, name) + by for name, by in changes.items()}))
    )


@pytest.mark.parametrize("changes", [{"start": 2}, {"start": 3}, {"num_tokens": -2}, {"num_tokens": -3}])
def test_a_range_that_misses_some_of_its_pictures_tokens_is_refused(opened, pair, changes):
    with pytest.raises(
        CollateError, match=rf"^{pair.sample_id} image 1: its range holds \d+ image tokens, its grid makes"
    ):
        collate([moved(pair, **changes)], opened.facts)


def test_a_range_without_its_framing_tokens_still_owns_its_picture(opened, pair):
    assert collate([moved(pair, start=1, num_tokens=-2)], opened.facts).num_targets > 0


def test_image_tokens_that_no_picture_owns_are_refused(opened, pair):
    bare = replace(pair, images=(), image_spans=())
    with pytest.raises(CollateError, match=rf"^{pair.sample_id}: \d+ image tokens, its grids make 0"):
        collate([bare], opened.facts)


def test_a_picture_too_many_is_refused(opened, pair):
    with pytest.raises(CollateError, match=rf"^{pair.sample_id}: 3 images, tiles of 2"):
        collate([replace(pair, images=(*pair.images, pair.images[0]))], opened.facts)


def test_a_grid_with_another_thumbnail_is_another_number_of_tokens(opened, pair):
    """The numbers of rows and columns alone would agree."""
    one, two = pair.image_spans
    grids = [Grid(s.grid.rows, s.grid.cols, not s.grid.thumbnail) for s in (one, two)]
    for changed in ((replace(one, grid=grids[0]), two), (one, replace(two, grid=grids[1]))):
        with pytest.raises(CollateError, match="its grid makes"):
            collate([replace(pair, image_spans=changed)], opened.facts)


def test_a_wrong_sample_among_right_ones_is_named(opened, pair):
    with pytest.raises(CollateError, match=f"^{pair.sample_id}: "):
        collate([opened.sample(0), replace(pair, images=()), opened.sample(1)], opened.facts)
