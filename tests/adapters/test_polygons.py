from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adapters.polygons import mask_to_polygons, rle_to_polygons
from adapters.rle import encode_mask

Blobs = Callable[[int, tuple[int, int], int], np.ndarray]


def filled(polygons: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    canvas = np.zeros(shape, np.uint8)
    for polygon in polygons:  # one by one: components are apart, and even-odd filling is for holes
        cv2.fillPoly(canvas, [polygon.astype(np.int32)], 1)
    return canvas.astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_outer_outlines_fill_to_the_mask_without_its_holes(mask: np.ndarray) -> None:
    polygons = mask_to_polygons(mask, min_hole_area=mask.size + 1)
    assert all(len(polygon) >= 3 for polygon in polygons)
    labels = cv2.connectedComponents((~np.pad(mask, 1)).astype(np.uint8), connectivity=4)[1]
    without_holes = (labels != labels[0, 0])[1:-1, 1:-1]
    np.testing.assert_array_equal(filled(polygons, mask.shape), without_holes)


def test_holes_stay_open(blobs: Blobs) -> None:
    for mask in blobs(6, (200, 300), 2):
        smooth = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(
            bool
        )
        assert iou(filled(mask_to_polygons(smooth), mask.shape), smooth) > 0.985


def test_several_holes_in_one_component() -> None:
    mask = np.zeros((100, 160), bool)
    mask[10:90, 10:150] = True
    for x in (20, 60, 100):
        mask[30:70, x : x + 25] = False
    polygons = mask_to_polygons(mask)
    assert len(polygons) == 1
    drawn = filled(polygons, mask.shape)
    assert iou(drawn, mask) > 0.97
    assert not drawn[40:60, 30:35].any() and not drawn[40:60, 70:75].any() and not drawn[40:60, 110:115].any()
    assert len(mask_to_polygons(mask, min_hole_area=40 * 25 + 1)[0]) == 4


@pytest.mark.parametrize("inner", [1, 2, 5])
def test_hole_area_is_counted_in_pixels(inner: int) -> None:
    mask = np.ones((20, 20), bool)
    mask[5 : 5 + inner, 7 : 7 + inner] = False
    assert len(mask_to_polygons(mask, min_hole_area=inner**2)[0]) > 4
    assert len(mask_to_polygons(mask, min_hole_area=inner**2 + 1)[0]) == 4


def test_largest_component_first_and_nothing_for_an_empty_mask() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:5, 2:5] = True
    mask[10:25, 10:25] = True
    first, second = rle_to_polygons(encode_mask(mask))
    assert first.min() == 10 and second.max() == 4
    assert first.dtype == np.float32
    assert mask_to_polygons(np.zeros((5, 5), bool)) == []
