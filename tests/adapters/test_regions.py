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


@given(small_masks, st.integers(0, 30))
def test_clean_mask_is_segment_anythings(mask: np.ndarray, min_area: int) -> None:
    expected, changed_holes = amg.remove_small_regions(mask, min_area, mode="holes")
    expected, changed_islands = amg.remove_small_regions(expected, min_area, mode="islands")
    cleaned, small = regions.clean_mask(mask, min_area)
    np.testing.assert_array_equal(cleaned, expected)
    assert small == (changed_holes or changed_islands)


@given(small_masks, st.integers(0, 30))
def test_cleaning_the_window_is_cleaning_the_image(mask: np.ndarray, min_area: int) -> None:
    encoded = rle.encode_mask(mask)
    box = rle.bounding_boxes([encoded])[0]
    expected, small = regions.clean_mask(mask, min_area)
    found, found_box, found_small = regions.clean_rle(encoded, box, min_area)
    assert found == rle.encode_mask(expected)
    assert found_small == small
    np.testing.assert_array_equal(found_box, rle.bounding_boxes([found])[0])


@pytest.mark.parametrize("min_area", [1, 40, 150, 3000])
def test_cleaning_blobs_in_a_large_image(blobs: Blobs, min_area: int) -> None:
    for mask in blobs(4, (60, 90), 5):
        photo = np.zeros((400, 500), bool)
        photo[300:360, 20:110] = mask
        encoded = rle.encode_mask(photo)
        found, *_ = regions.clean_rle(encoded, rle.bounding_boxes([encoded])[0], min_area)
        assert found == rle.encode_mask(regions.clean_mask(photo, min_area)[0])


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


def test_drop_small_goes_by_the_largest_component() -> None:
    masks = np.zeros((3, 40, 40), bool)
    masks[0, :10, :10] = True
    masks[1, :9, :9] = True
    masks[1, 20:29, 20:29] = True  # 162 pixels, but no component of 100
    found = regions.drop_small(instances_of(masks), 100)
    assert found.areas.tolist() == [100]
