"""Composed canvases: determined by their number, valid targets, nothing lost on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam.errors import BadAnnotation
from sam.training.batch import Batch, in_parts
from sam.training.canvas import (
    SURROUNDINGS,
    CanvasSampler,
    SamplingConfig,
    merge_with_neighbour,
    one_component,
    paste_cutout,
    photometric_jitter,
    place,
    shrink_mask,
)
from sam.training.data import LabelledPhoto, PackedSet, pack

SIDE = 64
EVERYTHING = SamplingConfig({"shapes": 1.0}, mosaic=0.5, paste=0.5, surroundings=0.5, masks=4)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_canvas_depends_on_seed_and_number_alone(shapes: PackedSet) -> None:
    first, again = CanvasSampler([shapes], EVERYTHING, 3), CanvasSampler([shapes], EVERYTHING, 3)
    for number in (5, 0, 11):
        a = first(number, SIDE)
        again(number + 1, SIDE)  # what was drawn before does not matter
        b = again(number, SIDE)
        assert np.array_equal(a.pixels, b.pixels) and np.array_equal(a.targets, b.targets)
        assert np.array_equal(a.ids, b.ids)
    other = CanvasSampler([shapes], EVERYTHING, 4)(5, SIDE)
    assert not np.array_equal(first(5, SIDE).pixels, other.pixels)
    assert not np.array_equal(first(5, SIDE).pixels, first(6, SIDE).pixels)


def test_targets_are_a_quarter_of_the_canvas_and_none_is_empty(shapes: PackedSet) -> None:
    sampler = CanvasSampler([shapes], EVERYTHING, 0)
    for number in range(60):
        sample = sampler(number, SIDE)
        assert sample.pixels.shape == (SIDE, SIDE, 3) and sample.ids.shape == (SIDE, SIDE)
        assert sample.targets.shape == (4, SIDE // 4, SIDE // 4)
        assert set(np.unique(sample.targets)) <= {0, 1}
        assert sample.targets.any((1, 2)).all()


def test_plain_targets_are_segments_of_the_canvas(shapes: PackedSet) -> None:
    plain = SamplingConfig({"shapes": 1.0}, mosaic=0, paste=0, surroundings=0, component=0, group=0, masks=3)
    sampler = CanvasSampler([shapes], plain, 0)
    for number in range(20):
        sample = sampler(number, SIDE)
        candidates = [shrink_mask((sample.ids == i).astype(np.uint8)) for i in np.unique(sample.ids) if i]
        for target in sample.targets:
            assert any(np.array_equal(target, c) for c in candidates) or target.sum() <= 64


def test_sets_are_drawn_by_their_weight(shapes: PackedSet, tmp_path: Path) -> None:
    layer = np.ones((32, 32), np.uint8)
    layer[8:24, 8:24] = 2
    white = pack([LabelledPhoto(np.full((32, 32, 3), 255, np.uint8), (layer,), "w")] * 2, tmp_path / "white")
    plain = SamplingConfig({"shapes": 1, "white": 3}, mosaic=0, paste=0, surroundings=0)
    sampler = CanvasSampler([shapes, white], plain, 0)
    drawn = sum(sampler._draw(rng(i))[0].min() == 255 for i in range(400))
    assert 260 < drawn < 340  # 300 expected, standard deviation 9


@pytest.mark.parametrize(("share", "expected"), [(1.0, 12), (0.5, 6), (0.25, 3), (0.01, 1)])
def test_a_share_of_the_photos_is_drawn_alone(tmp_path: Path, share: float, expected: int) -> None:
    grey = [
        LabelledPhoto(np.full((64, 64, 3), 10 + 20 * i, np.uint8), (np.ones((64, 64), np.uint8),), str(i))
        for i in range(12)
    ]
    packed = pack(grey, tmp_path / "grey")
    sampler = CanvasSampler([packed], SamplingConfig({"grey": 1.0}, photos=share), 0)
    draws = rng()
    seen = {int(sampler._draw(draws).pixels[0, 0, 0]) for _ in range(400)}
    assert len(seen) == expected
    if expected > 1:  # from all over the set
        assert min(seen) == 10 and max(seen) >= 10 + 20 * (12 - 12 // expected)


def test_small_segments_are_drawn_as_often_as_large_ones_or_by_area(tmp_path: Path) -> None:
    layer = np.ones((64, 64), np.uint8)
    layer[:16, :16] = 2  # a sixteenth of the photo
    photo = np.full((64, 64, 3), 90, np.uint8)
    pack([LabelledPhoto(photo, (layer,), "two")], tmp_path / "two", long_side=64)
    packed = PackedSet.open(tmp_path / "two")

    def share_of_small(power: float) -> float:
        plain = {"mosaic": 0.0, "paste": 0.0, "surroundings": 0.0, "component": 0.0, "group": 0.0}
        config = SamplingConfig({"two": 1.0}, scale=(1, 1), masks=1, area_power=power, max_area=1, **plain)
        sampler = CanvasSampler([packed], config, 0)
        return float(np.mean([sampler(i, 64).targets.mean() < 0.5 for i in range(300)]))

    assert 0.42 < share_of_small(0) < 0.58
    assert 0.02 < share_of_small(1) < 0.12  # 1 / 16


def test_without_a_weighted_set_or_a_usable_segment_it_says_so(tmp_path: Path, shapes: PackedSet) -> None:
    with pytest.raises(ValueError, match="weight above 0"):
        CanvasSampler([shapes], SamplingConfig({"other": 1.0}), 0)
    unlabelled = LabelledPhoto(np.full((16, 16, 3), 9, np.uint8), (np.zeros((16, 16), np.uint8),), "u")
    empty = pack([unlabelled], tmp_path / "empty")
    sampler = CanvasSampler([empty], SamplingConfig({"empty": 1.0}, mosaic=0, surroundings=0), 0)
    with pytest.raises(BadAnnotation, match="are the photos labelled"):
        sampler(0, 32)


def test_place_keeps_pixels_and_ids_together() -> None:
    layer = np.zeros((40, 60), np.uint8)
    layer[10:30, 20:50] = 7
    photo = np.where(layer[..., None] == 7, 200, 40).astype(np.uint8).repeat(3, 2)
    for seed in range(30):
        pixels, ids = place(photo, layer, 64, rng(seed), (0.6, 1.8))
        assert pixels.shape == (64, 64, 3) and ids.shape == (64, 64)
        padding = ~pixels.any(2)
        assert (ids[padding] == 0).all()
        assert pixels[ids == 7].mean() > 180 or not (ids == 7).any()
        assert pixels[(ids == 0) & ~padding].mean() < 60


def test_black_pixels_of_a_photo_are_not_padding() -> None:
    pixels, _ = place(np.zeros((32, 64, 3), np.uint8), np.ones((32, 64), np.uint8), 64, rng(), (1.0, 1.0))
    jittered = photometric_jitter(pixels, rng(1))
    assert jittered[:32].all() and not jittered[32:].any()


def test_a_cut_out_gets_an_id_of_its_own() -> None:
    pixels, ids = np.full((64, 64, 3), 50, np.uint8), np.ones((64, 64), np.uint8)
    photo, layer = np.full((20, 20, 3), 250, np.uint8), np.zeros((20, 20), np.uint8)
    layer[5:15, 5:15] = 9
    paste_cutout(pixels, ids, photo, layer, rng())
    new = ids != 1
    assert 0 < new.sum() < ids.size and np.unique(ids[new]).tolist() == [2]
    assert (pixels[new] == 250).all() and (pixels[~new] == 50).all()


def test_components_and_neighbours() -> None:
    ids = np.zeros((10, 10), np.uint8)
    ids[1:3, 1:3] = ids[6:9, 6:9] = 1
    ids[1:3, 3:5] = 2
    mask = (ids == 1).astype(np.uint8)
    sizes = {int(one_component(mask, rng(seed)).sum()) for seed in range(20)}
    assert sizes == {4, 9}
    merged = merge_with_neighbour(mask, ids, rng())
    assert np.array_equal(merged, (ids > 0).astype(np.uint8))


def test_shrinking_is_by_majority() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:2, :4] = 1  # half of the first block
    mask[4, 4:8] = 1  # a quarter of the last
    assert shrink_mask(mask).tolist() == [[1, 0], [0, 0]]


def test_jitter_is_of_saturation_contrast_brightness_and_tint() -> None:
    """As written out step by step, in float32; what was not padding is never black."""
    pixels = rng(5).integers(1, 256, (32, 32, 3), dtype=np.uint8)
    pixels[24:] = 0
    weights = np.array([0.299, 0.587, 0.114])
    for seed in range(20):
        draws = rng(seed)
        saturation = 0.0 if draws.random() < 0.05 else draws.uniform(0.6, 1.4)
        contrast, brightness = draws.uniform(0.75, 1.3), draws.uniform(0.75, 1.25)
        grey = pixels @ weights
        coloured = grey[..., None] + saturation * (pixels - grey[..., None])
        lit = (coloured - grey.mean()) * contrast + grey.mean() * brightness
        expected = np.clip(lit * draws.uniform(0.94, 1.06, 3), 1, 255)
        found = photometric_jitter(pixels, rng(seed))
        assert found[:24].all() and not found[24:].any()
        assert np.abs(found[:24] - expected[:24]).max() <= 1


def test_a_batch_is_its_samples_part_by_part(shapes: PackedSet) -> None:
    sampler = CanvasSampler([shapes], EVERYTHING, 0)
    samples = [sampler(number, SIDE) for number in range(6)]
    parts = in_parts(samples, 2)
    assert [len(part.pixels) for part in parts] == [3, 3]
    for number, sample in enumerate(samples):
        part, row = parts[number // 3], number % 3
        assert np.array_equal(part.pixels[row], sample.pixels)
        assert np.array_equal(part.targets[row], sample.targets)
        assert np.array_equal(part.ids[row], sample.ids[2::4, 2::4])
    assert parts[0].texts is None
    vectors = rng().normal(size=(4, 5)).astype(np.float32)
    named = replace(samples[0], texts=vectors)
    told = Batch.of([named, named]).texts
    assert told is not None and told.shape == (2, 4, 5) and np.array_equal(told[1], vectors)
    assert Batch.of([named, samples[1]]).texts is None


def test_surroundings_are_filled_where_a_photo_is_sparsely_labelled() -> None:
    pixels, ids = np.full((10, 10, 3), 9, np.uint8), np.zeros((10, 10), np.uint8)
    pixels[8:] = 0
    ids[:4] = 3
    CanvasSampler._fill_surroundings(pixels, ids)
    assert (ids[:4] == 3).all() and (ids[4:8] == SURROUNDINGS).all() and (ids[8:] == 0).all()
