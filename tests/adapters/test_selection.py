from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from segment_anything.utils import amg

from adapters import selection

boxes_lists = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30), st.integers(1, 30)), max_size=20
)


def as_boxes(raw: list[tuple[int, int, int, int]]) -> np.ndarray:
    return np.array([(x, y, x + w, y + h) for x, y, w, h in raw], np.float32).reshape(-1, 4)


def iou_on_last_pixels(a: np.ndarray, b: np.ndarray) -> float:
    """As segment-anything counts: a box ends on its last pixel, and has the area between its edges."""
    ax2, ay2, bx2, by2 = a[2] - 1, a[3] - 1, b[2] - 1, b[3] - 1
    overlap = max(0.0, min(ax2, bx2) - max(a[0], b[0])) * max(0.0, min(ay2, by2) - max(a[1], b[1]))
    union = (ax2 - a[0]) * (ay2 - a[1]) + (bx2 - b[0]) * (by2 - b[1]) - overlap
    return float(overlap / union) if union else 0.0


@given(boxes_lists, st.floats(0.05, 0.95), st.randoms(use_true_random=False))
def test_suppression(raw: list[tuple[int, int, int, int]], threshold: float, random: object) -> None:
    boxes = as_boxes(raw)
    scores = np.random.default_rng(len(raw)).permutation(len(raw)).astype(np.float32)
    kept = selection.box_nms(boxes, scores, threshold)
    assert (np.diff(scores[kept]) < 0).all(), "best first"
    for i, first in enumerate(kept):
        for second in kept[i + 1 :]:
            assert iou_on_last_pixels(boxes[first], boxes[second]) <= threshold + 1e-6
    for lost in set(range(len(boxes))) - set(kept.tolist()):
        betters = [k for k in kept if scores[k] > scores[lost]]
        assert any(iou_on_last_pixels(boxes[k], boxes[lost]) > threshold - 1e-6 for k in betters)


def test_suppression_keeps_the_order_of_ties() -> None:
    boxes = as_boxes([(0, 0, 9, 9), (20, 0, 9, 9), (0, 0, 9, 9), (20, 0, 9, 9)])
    assert selection.box_nms(boxes, np.ones(4, np.float32), 0.7).tolist() == [0, 1]


def test_suppression_of_nothing() -> None:
    assert selection.box_nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).shape == (0,)


def test_stability_by_hand() -> None:
    logits = torch.tensor(
        [[[2.0, 0.5], [-0.5, -2.0]], [[3.0, 3.0], [3.0, 3.0]], [[-3.0, -3.0], [-3.0, -3.0]]]
    )
    assert selection.stability_score(logits).tolist() == pytest.approx([1 / 3, 1.0, 0.0])
    assert selection.stability_score(logits, threshold=1.0, offset=0.5).tolist() == pytest.approx(
        [1.0, 1.0, 0.0]
    )


@given(st.integers(0, 10_000), st.floats(0.1, 3.0), st.floats(-1.0, 1.0))
def test_stability_is_segment_anythings(seed: int, offset: float, threshold: float) -> None:
    logits = 3 * torch.randn(4, 7, 9, generator=torch.Generator().manual_seed(seed))
    theirs = amg.calculate_stability_score(logits, threshold, offset).nan_to_num(0.0)
    ours = selection.stability_score(logits, threshold, offset)
    torch.testing.assert_close(ours, theirs)
    assert bool(((ours >= 0) & (ours <= 1)).all())


@given(boxes_lists.filter(bool), st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_edge_test_is_segment_anythings(
    raw: list[tuple[int, int, int, int]], origin: tuple[int, int]
) -> None:
    boxes = as_boxes(raw)
    crop = (origin[0], origin[1], origin[0] + 62, origin[1] + 61)
    size = (120, 130)
    theirs = amg.is_box_near_crop_edge(
        torch.from_numpy(boxes) - torch.tensor([0, 0, 1, 1]), list(crop), [0, 0, size[1], size[0]]
    )
    ours = selection.touches_inner_edge(boxes + np.array(origin * 2, np.float32), crop, size)
    assert ours.tolist() == theirs.tolist()


def test_the_images_own_edge_cuts_nothing() -> None:
    whole = np.array([[0, 0, 100, 80]], np.float32)
    assert not selection.touches_inner_edge(whole, (0, 0, 100, 80), (80, 100)).any()
    assert selection.touches_inner_edge(whole[:, :] / 2, (0, 0, 60, 50), (80, 100)).all()


def test_coverage() -> None:
    areas = np.array([94, 95, 100])
    assert selection.covers_image(areas, (10, 10), 0.95).tolist() == [False, True, True]


def test_mask_boxes() -> None:
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 2:4, 3:7] = True
    np.testing.assert_array_equal(selection.mask_boxes(masks), [[3, 2, 7, 4], [0, 0, 0, 0]])
