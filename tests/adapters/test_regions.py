from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from segment_anything.utils import amg

from adapters import regions, rle
from adapters.results import Instances

Blobs = Callable[[int, tuple[int, int], int], np.ndarray]
small_masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def instances_of(masks: np.ndarray) -> Instances:
    rles = tuple(rle.encode_masks(masks))
    return Instances(
        masks.shape[1:], rles, rle.bounding_boxes(rles), np.linspace(1, 0.5, len(rles), dtype=np.float32)
    )


def cleaned_by_segment_anything(mask: np.ndarray, min_area: float) -> tuple[np.ndarray, bool]:
    filled, holes = amg.remove_small_regions(mask, min_area, mode="holes")
    cleaned, islands = amg.remove_small_regions(filled, min_area, mode="islands")
    return cleaned, holes or islands


def check(masks: list[np.ndarray], min_area: float) -> None:
    found, boxes, small = regions.clean_masks(rle.encode_masks(np.stack(masks)), min_area)
    expected = [cleaned_by_segment_anything(mask, min_area) for mask in masks]
    assert found == [rle.encode_mask(mask) for mask, _ in expected]
    assert small.tolist() == [changed for _, changed in expected]
    np.testing.assert_array_equal(boxes, rle.bounding_boxes(found))


@given(small_masks, st.integers(0, 30), st.integers(0, 1000))
def test_cleaning_is_segment_anythings(mask: np.ndarray, min_area: int, seed: int) -> None:
    """Three masks at a time: what hangs together in one must not hang together with another."""
    other = np.random.default_rng(seed).random(mask.shape) < 0.4
    check([mask, other, mask], min_area)


@pytest.mark.parametrize("min_area", [0, 1, 40, 150, 3000])
def test_cleaning_blobs_in_a_large_image(
    blobs: Blobs, min_area: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = np.zeros((5, 400, 500), bool)
    photos[:4, 300:360, 20:110] = blobs(4, (60, 90), 5)
    monkeypatch.setattr(regions, "MASKS_AT_ONCE", 2)
    check(list(photos), min_area)


def test_regions_that_meet_at_corners_are_one() -> None:
    mask = np.zeros((8, 8), bool)
    mask[range(6), range(6)] = True
    assert regions.largest_components([rle.encode_mask(mask), rle.encode_mask(mask[:, ::-1])]).tolist() == [
        6,
        6,
    ]
    mask[3, 3] = False
    assert regions.largest_components([rle.encode_mask(mask)]).tolist() == [3]


def test_duplicates_made_by_cleaning_are_suppressed_and_tidy_masks_preferred() -> None:
    masks = np.zeros((2, 50, 50), bool)
    masks[:, 10:30, 10:30] = True
    masks[0, 45:48, 45:48] = True  # an island: the box reaches to it, so NMS had seen two objects
    instances = instances_of(masks)
    found = regions.clean_instances(instances, min_area=20, nms_thresh=0.7)
    assert len(found) == 1
    assert found.rles[0] == instances.rles[1]


def test_nothing_to_clean() -> None:
    assert len(regions.clean_instances(Instances.empty((9, 9)), 10, 0.7)) == 0
    assert len(regions.drop_small(Instances.empty((9, 9)), 10)) == 0
    assert regions.largest_components([rle.encode_mask(np.zeros((3, 4), bool))]).tolist() == [0]


def test_drop_small_goes_by_the_largest_component() -> None:
    masks = np.zeros((3, 40, 40), bool)
    masks[0, :10, :10] = True
    masks[1, :9, :9] = True
    masks[1, 20:29, 20:29] = True  # 162 pixels, but no component of 100
    found = regions.drop_small(instances_of(masks), 100)
    assert found.areas.tolist() == [100]
