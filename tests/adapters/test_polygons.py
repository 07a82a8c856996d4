from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from adapters import polygons as module
from adapters.polygons import Polygon, mask_to_polygons, nearest_vertices, splice

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
    first, second = mask_to_polygons(mask)
    assert first.min() == 10 and second.max() == 4
    assert first.dtype == np.float32
    assert mask_to_polygons(np.zeros((5, 5), bool)) == []


# Slits, against the plain search: every hole with the whole ring, anew in each round.


def plainly_nearest(one: Polygon, other: Polygon) -> tuple[float, int, int]:
    squared = ((one[:, None] - other[None]) ** 2).sum(-1)
    i, j = divmod(int(squared.argmin()), len(other))
    return float(squared[i, j]), i, j


def plain_polygons(mask: np.ndarray) -> list[Polygon]:
    contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [contour[:, 0].astype(np.float32) for contour in contours]
    polygons = []
    for outer in range(len(rings)):
        if hierarchy[0, outer, 3] >= 0:
            continue
        ring = rings[outer]
        holes = [rings[i] for i in range(len(rings)) if hierarchy[0, i, 3] == outer]
        while holes:
            slits = [plainly_nearest(ring, hole) for hole in holes]
            nearest = min(range(len(holes)), key=lambda i: slits[i][0])
            _, here, there = slits[nearest]
            hole = np.roll(holes.pop(nearest), -there, axis=0)
            ring = np.concatenate([ring[: here + 1], hole, hole[:1], ring[here:]])
        polygons.append(np.concatenate([ring, np.repeat(ring[-1:], max(0, 3 - len(ring)), axis=0)]))
    return sorted(polygons, key=lambda ring: -float(abs(cv2.contourArea(ring))))


def check_slits(mask: np.ndarray) -> None:
    found, expected = mask_to_polygons(mask), plain_polygons(mask)
    assert len(found) == len(expected)
    for got, wanted in zip(found, expected, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, wanted)


@given(st.integers(0, 2**31), st.integers(1, 28), st.integers(1, 28), st.sampled_from([0.5, 0.7, 0.9]))
def test_slits_are_those_of_the_plain_search(seed: int, height: int, width: int, share: float) -> None:
    check_slits(np.random.default_rng(seed).random((height, width)) < share)


@pytest.mark.parametrize("seed", range(4))
def test_slits_between_long_outlines(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal((160, 240))
    check_slits(cv2.GaussianBlur(noise, (0, 0), 4) > -0.06)


@pytest.mark.parametrize("step", [2, 3, 5])
def test_equally_long_slits_are_decided_as_by_the_plain_search(step: int) -> None:
    mask = np.ones((27, 22), bool)
    mask[1:-1:step, 1:-1:step] = False
    check_slits(mask)


@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(1, 300), st.sampled_from([1.0, 1234.567]))
def test_nearest_vertices_and_the_first_of_equals(seed: int, n: int, m: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = (np.cumsum(rng.integers(-1, 2, (k, 2)), axis=0) for k in (n, m))  # outlines, roughly
    for offset in (0, 40):
        pair = (one * scale).astype(np.float32), ((other + offset) * scale).astype(np.float32)
        assert nearest_vertices(*pair) == plainly_nearest(*pair)


def test_a_slit_is_walked_there_and_back() -> None:
    ring = np.array([[0, 0], [9, 0], [9, 9]], np.float32)
    turned = np.array([[5, 1], [6, 1]], np.float32)
    assert splice(ring, 1, turned).tolist() == [[0, 0], [9, 0], [5, 1], [6, 1], [5, 1], [9, 0], [9, 9]]


def test_three_hundred_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    squared = module._squared

    def counted(apart: np.ndarray) -> np.ndarray:
        compared.append(apart.size // 2)
        return squared(apart)

    monkeypatch.setattr(module, "_squared", counted)
    mask = np.full((1300, 1600), 1, np.uint8)
    grid = np.stack(np.meshgrid(np.arange(50, 1600, 75), np.arange(50, 1250, 82)), -1).reshape(-1, 2)[:300]
    for x, y in (grid + np.random.default_rng(0).integers(-4, 5, grid.shape)).tolist():
        cv2.circle(mask, (x, y), 29, 0, -1)
    (polygon,) = mask_to_polygons(mask.astype(bool))
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    assert len(contours) == 301
    assert len(polygon) == sum(map(len, contours)) + 2 * 300
    assert iou(filled([polygon], mask.shape), mask.astype(bool)) > 0.985
    # Time depends on the machine, so pairs of vertices are counted: the plain search needs some 500 times as
    # many as are allowed here, as each of 300 rounds compares the whole ring with all holes that are left.
    assert sum(compared) < len(polygon) ** 2 / 10
