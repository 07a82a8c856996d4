"""Where the simulated user clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from composer.evaluation.clicks import first_click, next_click
from sam.training.deepest import deepest_point


def grid(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (30, 40)) -> np.ndarray:
    mask = np.zeros(size, bool)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = True
    return mask


def brute_force_depth(region: np.ndarray) -> np.ndarray:
    """Distance of every pixel to the nearest one outside, the image's surroundings included."""
    padded = np.pad(region, 1)
    outside = np.argwhere(~padded)
    depth = np.zeros(padded.shape)
    for y, x in np.argwhere(padded):
        depth[y, x] = np.hypot(*(outside - (y, x)).T).min()
    return depth[1:-1, 1:-1]


@pytest.mark.parametrize(
    ("region", "point", "depth"),
    [
        (grid((10, 5, 17, 12)), (13, 8), 4),  # a square of 7: its middle
        (grid((0, 0, 7, 7)), (3, 3), 4),  # beyond the image is outside
        (grid((0, 0, 40, 30)), (14, 14), 15),  # of equally deep ones the topmost, then the leftmost
        (grid((9, 9, 10, 10)), (9, 9), 1),
        (grid((2, 2, 5, 5), (10, 10, 19, 19)), (14, 14), 5),  # the larger of two
    ],
)
def test_the_deepest_point(region: np.ndarray, point: tuple[int, int], depth: float) -> None:
    found = deepest_point(region)
    assert found is not None and found[:2] == point and found[2] == pytest.approx(depth)


def test_a_ring_is_clicked_on_its_band() -> None:
    y, x = np.mgrid[:40, :40]
    distance = np.hypot(x - 20, y - 20)
    ring = (distance < 15) & (distance > 9)
    click = first_click(ring)
    assert ring[click.y, click.x] and click.label == 1


@given(arrays(bool, (9, 12), elements=st.booleans()))
def test_against_brute_force(region: np.ndarray) -> None:
    found = deepest_point(region)
    if not region.any():
        assert found is None
        return
    assert found is not None
    x, y, depth = found
    depths = brute_force_depth(region)
    assert region[y, x]
    assert depth == pytest.approx(depths.max(), abs=1e-3)
    assert depths[y, x] == pytest.approx(depths.max(), abs=1e-3)


def test_an_empty_mask_cannot_be_clicked() -> None:
    assert deepest_point(np.zeros((5, 5), bool)) is None
    with pytest.raises(ValueError, match="empty"):
        first_click(np.zeros((5, 5), bool))


def test_the_correction_goes_to_the_larger_error() -> None:
    truth = grid((10, 5, 30, 25))
    missing = truth & ~grid((20, 5, 30, 25))
    click = next_click(missing, truth)
    assert click is not None and click.label == 1 and 20 <= click.x < 30
    too_much = truth | grid((0, 5, 10, 25))
    click = next_click(too_much, truth)
    assert click is not None and click.label == 0 and click.x < 10
    both = (truth & ~grid((28, 5, 30, 25))) | grid((0, 5, 10, 25))
    click = next_click(both, truth)
    assert click is not None and click.label == 0
    equal = (truth & ~grid((26, 5, 30, 25))) | grid((6, 5, 10, 25))
    click = next_click(equal, truth)
    assert click is not None and click.label == 1


def test_errors_that_touch_are_looked_at_apart() -> None:
    truth, predicted = grid((5, 5, 15, 25)), grid((15, 5, 25, 25))
    click = next_click(predicted, truth)
    assert click is not None and truth[click.y, click.x] and click.label == 1
    assert 8 < click.x < 12  # the middle of the missing part, not the line between the two


def test_a_perfect_mask_needs_no_click() -> None:
    truth = grid((5, 5, 15, 25))
    assert next_click(truth, truth) is None


def test_what_counts_is_depth_and_not_area() -> None:
    long, thick = grid((0, 0, 40, 2)), grid((10, 10, 17, 17))
    assert long.sum() > thick.sum()
    assert next_click(thick, long) == (13, 13, 0)


@given(arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9))))
def test_a_correction_lies_on_an_error_of_its_label(masks: np.ndarray) -> None:
    predicted, truth = masks
    click = next_click(predicted, truth)
    if click is None:
        assert (predicted == truth).all()
    else:
        assert (bool(predicted[click.y, click.x]), bool(truth[click.y, click.x])) == (
            (False, True) if click.label else (True, False)
        )
